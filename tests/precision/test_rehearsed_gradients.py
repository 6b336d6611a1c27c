"""Gradients of a rehearsal beside those of a real step in the format, on small networks.

Real is autocast on this CPU. Its matrix products in bf16 and fp16, its attention, and its convolutions in bf16 take
the format's numbers, sum in fp32 and round once, as the units of GPUs do. Its convolutions in fp16 do not: without
AVX-512 FP16 their backward pass sums in fp16 itself. Those are therefore written as the matrix products that they are.

How far the rehearsal is from the real step is the order of sums alone. It moves a rounding here and there, and each
that moved moves others in the next layer. After some layers two real devices are nearly as far from each other as from
fp32, so the networks are small, and the worst of all seeds is asked of the shallowest ones only.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.precision.emulate import Rehearsal
from halftone.system.device import device_facts

Half = Literal["fp16", "bf16"]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
SCALES = {"fp16": 1024.0, "bf16": 1.0}
SEEDS = 5
NATIVE = device_facts(torch.device("cpu")).native
NEAR = {"two convolutions": 0.1, "four convolutions": 0.4, "perceptron": 0.1, "attention": 0.1}
"""Four layers deep the order of sums shows: a median of 0.2 on an Intel with AMX and AVX-512 FP16."""


class Product(torch.autograd.Function):
    """A convolution by 3x3, padded by one, as matrix products: forward, of its input and of its weight."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return Product.of(images, weight)

    @staticmethod
    def of(images: Tensor, weight: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        columns = F.unfold(images, 3, padding=1).transpose(1, 2).flatten(0, 1)  # [batch * places, in * 9]
        return (columns @ weight.flatten(1).T).view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        images, weight = ctx.saved_tensors
        turned = weight.flip(2, 3).transpose(0, 1)
        columns = F.unfold(images, 3, padding=1).transpose(0, 1).flatten(1)  # [in * 9, batch * places]
        found = gradients[0].transpose(0, 1).flatten(1) @ columns.T
        return Product.of(gradients[0], turned), found.view_as(weight)


class ByProducts(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu")
        return Product.apply(images.to(dtype), self.weight.to(dtype))  # type: ignore[no-untyped-call, no-any-return]


class Attention(nn.Module):
    """A block of attention over 16 patches; fused, or by its two products and a softmax."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(12, 16), nn.LayerNorm(16)
        self.to_heads, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)
        self.fused = fused

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images.reshape(len(images), 16, 12))
        split = self.to_heads(self.norm(patches)).view(len(images), 16, 3, 2, 8)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.transpose(2, 3) / 8**0.5).softmax(3) @ value
        return self.head((patches + self.out(mixed.transpose(1, 2).flatten(2))).mean(1))


def convolutions(depth: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for number in range(1, depth + 1):
        layers += [nn.Conv2d(channels, 8 * number, 3, padding=1, bias=False), nn.BatchNorm2d(8 * number), nn.ReLU()]
        channels = 8 * number
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "two convolutions": lambda: convolutions(2),
    "four convolutions": lambda: convolutions(4),
    "perceptron": perceptron,
    "attention": lambda: Attention(fused=False),
    "fused attention": lambda: Attention(fused=True),
}


def gradients(model: nn.Module, images: Tensor, labels: Tensor, name: Half, how: str) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    if how == "real" and (name == "fp16" or name not in NATIVE):
        for layer in model.modules():
            if type(layer) is nn.Conv2d:
                layer.__class__ = ByProducts
    cast = nullcontext() if how == "fp32" else torch.autocast("cpu", DTYPES[name])
    rehearsal = Rehearsal(name) if how == "rehearsed" else nullcontext()
    with cast, rehearsal:
        loss = F.cross_entropy(model(images), labels)
    with rehearsal:
        (loss * SCALES[name]).backward()
    return {key: parameter.grad.double() / SCALES[name] for key, parameter in model.named_parameters()}


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def ratios(network: str, name: Half) -> tuple[list[float], list[float]]:
    """How far the rehearsed step is from the real one, over how far that is from fp32: by parameter, and as a whole."""
    by_parameter, whole = [], []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model, images, labels = NETWORKS[network](), torch.randn(16, 3, 8, 8), torch.randint(3, (16,))
        full, real, rehearsed = (gradients(model, images, labels, name, how) for how in ("fp32", "real", "rehearsed"))
        by_parameter += [error(rehearsed[key], real[key]) / error(real[key], wanted) for key, wanted in full.items()]
        together = [torch.cat([value.flatten() for value in step.values()]) for step in (full, real, rehearsed)]
        whole.append(error(together[2], together[1]) / error(together[1], together[0]))
    return by_parameter, whole


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "fused attention"])
def test_a_rehearsed_gradient_is_ten_times_nearer_to_the_real_one_than_that_is_to_fp32(
    network: str, name: Half
) -> None:
    by_parameter, whole = ratios(network, name)
    assert median(by_parameter) < NEAR[network]
    assert median(whole) < NEAR[network]
    if network in ("two convolutions", "perceptron"):
        assert max(whole) < 0.1


@pytest.mark.parametrize("name", DTYPES)
def test_fused_attention_is_as_near(name: Half) -> None:
    by_parameter, whole = ratios("fused attention", name)
    assert median(by_parameter) < 0.1
    assert median(whole) < 0.1


@pytest.mark.skipif("bf16" not in NATIVE, reason="this CPU has no instructions for bf16")
@pytest.mark.parametrize("network", ["two convolutions", "perceptron"])
def test_in_bf16_no_parameter_is_farther_with_any_seed(network: str) -> None:
    by_parameter, whole = ratios(network, "bf16")
    assert max(by_parameter) < 0.1
    assert max(whole) < 0.1


@pytest.mark.parametrize("name", DTYPES)
def test_the_convolution_by_products_is_the_one_of_torch(name: Half) -> None:
    """The oracle itself: in double, it is torch's convolution; in the format, it rounds once."""
    random = torch.Generator().manual_seed(0)
    images, weight = torch.randn(2, 3, 5, 6, generator=random), torch.randn(4, 3, 3, 3, generator=random)
    wanted = torch.randn(2, 4, 5, 6, generator=random)
    held = [value.to(DTYPES[name]).double() for value in (images, weight, wanted)]
    outcomes = []
    for run in (lambda *inputs: F.conv2d(*inputs, padding=1), Product.apply):
        inputs = [value.clone().requires_grad_() for value in held[:2]]
        output = run(*inputs)
        outcomes.append([output.detach(), *torch.autograd.grad(output, inputs, held[2])])
    for found, expected in zip(outcomes[1], outcomes[0], strict=True):
        torch.testing.assert_close(found, expected)
    halves = [value.to(DTYPES[name]).requires_grad_() for value in held[:2]]
    output = Product.apply(*halves)
    found = [output.detach(), *torch.autograd.grad(output, halves, held[2].to(DTYPES[name]))]
    for half, exact in zip(found, outcomes[0], strict=True):
        assert error(half.double(), exact.to(DTYPES[name]).double()) < 2.0**-14
