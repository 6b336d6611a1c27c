"""Gradients of weights by products with the columns of the input: the same numbers as torch's own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.models import im2col
from halftone.models.build import build_model
from halftone.models.convolution import Geometry
from halftone.models.cpu_convolutions import speed_up_convolutions
from halftone.models.im2col import columns_pay, convolve_with_columns
from halftone.precision.emulate import Rehearsal
from layers import convolved, twins

CASES: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"kernel_size": 3, "padding": 1}, (9, 9)),
    ({"kernel_size": 3, "padding": 1, "bias": False}, (5, 12)),
    ({"kernel_size": 3, "padding": 1, "stride": 2}, (9, 10)),
    ({"kernel_size": 3, "stride": (3, 2)}, (13, 11)),
    ({"kernel_size": 3, "padding": 2, "dilation": 2}, (8, 8)),
    ({"kernel_size": 5, "padding": (0, 2), "dilation": (1, 2)}, (9, 12)),
    ({"kernel_size": (1, 3), "padding": (0, 1)}, (6, 7)),
    ({"kernel_size": 1}, (7, 6)),
    ({"kernel_size": 4, "padding": 3}, (2, 2)),
]


@pytest.fixture
def slow_kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A processor whose kernel is slow; the shapes of the columns that are made."""
    made: list[tuple[int, ...]] = []

    def heard(inputs: Tensor, geometry: Geometry) -> Tensor:
        columns = real(inputs, geometry)
        made.append(tuple(columns.shape))
        return columns

    real = im2col._columns
    monkeypatch.setattr(im2col, "_kernel_is_slow", lambda: True)
    monkeypatch.setattr(im2col, "_columns", heard)
    return made


@pytest.mark.parametrize(("settings", "size"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("images", [1, 2, 100])
def test_results_and_gradients_are_those_of_torch(
    settings: dict[str, Any],
    size: tuple[int, int],
    layout: torch.memory_format,
    images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, ours = twins(settings, torch.float64, channels=(6, 10))
    geometry = Geometry.of(ours, size)
    monkeypatch.setattr(im2col, "_PIECE", images * 8 * geometry.pixels_after * geometry.places * 6)
    monkeypatch.setattr(ours, "forward", lambda inputs: convolve_with_columns(ours, inputs, geometry))
    inputs = torch.randn(5, 6, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, ours, inputs = plain.to(memory_format=layout), ours.to(memory_format=layout), inputs.to(memory_format=layout)
    for one, other in zip(convolved(ours, inputs), convolved(plain, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("channels", "settings", "side", "pays"),
    [
        ((64, 128), {"kernel_size": 3, "padding": 1}, 28, True),
        ((64, 64), {"kernel_size": 3, "padding": 1}, 28, False),
        ((64, 64), {"kernel_size": 3, "padding": 1}, 56, True),
        ((32, 256), {"kernel_size": 3, "padding": 1}, 56, False),
        ((128, 128), {"kernel_size": 7, "padding": 3}, 28, False),
        ((512, 128), {"kernel_size": 1}, 14, False),
        ((512, 128), {"kernel_size": 3}, 2, False),  # nothing is left
    ],
)
def test_only_layers_that_gain_do_it(
    slow_kernel: list[tuple[int, ...]],
    channels: tuple[int, int],
    settings: dict[str, Any],
    side: int,
    pays: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Conv2d(*channels, **settings)
    geometry = Geometry.of(layer, (side, side))
    assert columns_pay(layer, geometry, torch.float32) == pays
    assert not columns_pay(layer, geometry, torch.bfloat16)
    with torch.no_grad():
        assert not columns_pay(layer, geometry, torch.float32)
    layer.weight.requires_grad = False
    assert not columns_pay(layer, geometry, torch.float32)
    layer.weight.requires_grad = True
    monkeypatch.setattr(im2col, "_kernel_is_slow", lambda: False)
    assert not columns_pay(layer, geometry, torch.float32)


def test_a_whole_network_has_the_same_gradients(slow_kernel: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    ours = build_model("resnet18", num_classes=4, channels=3, size=96, dropout=None).module
    ours = ours.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(ours)
    for layer in plain.modules():
        layer.__dict__.pop("forward", None)
    images, labels = torch.randn(4, 3, 96, 96), torch.tensor([0, 1, 2, 3])
    for network in (ours, plain):
        nn.functional.cross_entropy(network(images), labels).backward()
    assert len(slow_kernel) > 5
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).norm() <= 1e-4 * other.grad.norm() + 1e-6, name
        assert one.grad.stride() == other.grad.stride(), name


def test_a_frozen_input_and_a_frozen_weight_get_nothing(slow_kernel: list[tuple[int, ...]]) -> None:
    layer = nn.Conv2d(64, 128, 3, padding=1)
    speed_up_convolutions(layer)
    layer(torch.randn(2, 64, 8, 8)).sum().backward()
    assert layer.weight.grad is not None and layer.bias is not None and layer.bias.grad is not None
    assert slow_kernel == [(2 * 64, 9 * 64)]
    layer.weight.requires_grad = False
    inputs = torch.randn(2, 64, 8, 8, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad is not None
    assert len(slow_kernel) == 1


def test_a_rehearsal_rounds_the_product_too(slow_kernel: list[tuple[int, ...]]) -> None:
    plain, ours = twins({"kernel_size": 3, "padding": 1, "bias": False}, channels=(64, 128))
    inputs = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(1))

    def weight_gradient(layer: nn.Conv2d) -> Tensor:
        layer.zero_grad()
        return convolved(layer, inputs)[-1]

    exact = weight_gradient(plain)
    with Rehearsal("tf32"):
        usual, found = weight_gradient(plain), weight_gradient(ours)
    assert slow_kernel
    error = (usual - exact).norm()
    assert error > 1e-5 * exact.norm()
    assert (found - usual).norm() < 0.1 * error
