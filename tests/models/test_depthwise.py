"""Depthwise convolutions in bf16: torch's results, and gradients that are nearer to the exact ones than torch's."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.models import depthwise
from halftone.models.build import build_model, take_module
from layers import convolved, twins

CHANNELS = (8, 8)
CASES: list[dict[str, Any]] = [
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    {"kernel_size": (1, 7), "padding": (0, 3)},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 0, "stride": (2, 1)},
]


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The formats that gradients came in, of the layers that took the way of fp32."""
    heard: list[torch.dtype] = []

    class Heard(depthwise._Depthwise):
        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            heard.append(gradient.dtype)
            return super(Heard, Heard).backward(ctx, gradient)

    monkeypatch.setattr(depthwise, "_Depthwise", Heard)
    return heard


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("at_once", [0, 4, 6])
def test_results_are_torch_s_and_gradients_no_farther_from_the_exact_ones(
    gradients: list[torch.dtype],
    settings: dict[str, Any],
    layout: torch.memory_format,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depthwise, "_PIECE", at_once * 8 * 11 * 12 * 4)
    plain, ours = twins({**settings, "groups": 8}, channels=CHANNELS)
    inputs = torch.randn(6, 8, 11, 12, generator=torch.Generator().manual_seed(1)).to(memory_format=layout)
    exact = convolved(copy.deepcopy(plain).double(), inputs.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(inputs).dtype == torch.bfloat16
        found, usual = convolved(ours, inputs), convolved(plain, inputs)
    assert gradients == [torch.bfloat16]
    for one, other, right in zip(found, usual, exact, strict=True):
        assert (one - right).norm() <= 1.2 * (other - right).norm() + 1e-6
    assert ours.weight.grad is not None and ours.weight.grad.dtype == torch.float32


def test_weights_in_bf16_get_gradients_in_bf16(gradients: list[torch.dtype]) -> None:
    _, ours = twins({"kernel_size": 5, "padding": 2, "groups": 8}, torch.bfloat16, channels=CHANNELS)
    convolved(ours, torch.randn(2, 8, 9, 9, dtype=torch.bfloat16))
    assert gradients == [torch.bfloat16]
    assert ours.weight.grad is not None and ours.weight.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({"kernel_size": 3, "padding": 1, "groups": 8}, torch.bfloat16),  # torch is fast there
        ({"kernel_size": 5, "padding": 2, "groups": 8}, torch.float32),
        ({"kernel_size": 5, "padding": 2, "groups": 4}, torch.bfloat16),
        ({"kernel_size": 5, "padding": "same", "groups": 8}, torch.bfloat16),
        ({"kernel_size": 5, "padding": 2, "groups": 8, "padding_mode": "reflect"}, torch.bfloat16),
    ],
)
def test_elsewhere_nothing_changes(gradients: list[torch.dtype], settings: dict[str, Any], dtype: torch.dtype) -> None:
    plain, ours = twins(settings, dtype, channels=CHANNELS)
    inputs = torch.randn(3, 8, 9, 9, dtype=dtype)
    for one, other in zip(convolved(ours, inputs), convolved(plain, inputs), strict=True):
        assert torch.equal(one, other)
    assert not gradients


def test_without_gradients_and_with_frozen_weights_it_is_torch_s(gradients: list[torch.dtype]) -> None:
    plain, ours = twins({"kernel_size": 5, "padding": 2, "groups": 8}, torch.bfloat16, channels=CHANNELS)
    inputs = torch.randn(3, 8, 9, 9, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(ours(inputs), plain(inputs))
    ours.requires_grad_(False)
    inputs.requires_grad_()
    ours(inputs).sum().backward()
    assert ours.weight.grad is None and inputs.grad is not None and len(gradients) == 1


def test_networks_of_others_compute_so_and_can_be_pickled_without_it(gradients: list[torch.dtype]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.Flatten())
    network.append(nn.Linear(4 * 8 * 8, 3))
    take_module(network, num_classes=3, dropout=None)
    inputs = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        network(inputs).sum().backward()
    assert len(gradients) == 1
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(inputs), network(inputs))
    assert loaded[1].forward.__func__ is nn.Conv2d.forward and "forward" not in nn.Conv2d(1, 1, 1).__dict__


def test_networks_that_are_built_here_compute_so(gradients: list[torch.dtype]) -> None:
    model = build_model("mobilenet_v3_small", num_classes=3, channels=3, size=32, dropout=None).module
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    slow = [layer for layer in layers if layer.kernel_size != (3, 3) or layer.stride != (1, 1)]
    assert len(gradients) == len(slow) == 10
