"""Convolutions of narrow maps with several images side by side: the same numbers as torch's own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.models import side_by_side
from halftone.models.build import build_model
from halftone.models.convolution import Geometry
from halftone.models.cpu_convolutions import speed_up_convolutions
from layers import convolved, twins

WIDE = 128
"""Channels from which on it is done."""
CASES: list[tuple[int, dict[str, Any], tuple[int, int]]] = [
    (8, {"kernel_size": 3, "padding": 1}, (7, 7)),
    (13, {"kernel_size": 3, "padding": 1}, (7, 7)),  # some places stay empty
    (9, {"kernel_size": 3, "padding": 1, "bias": False}, (5, 9)),
    (40, {"kernel_size": 3, "padding": 1}, (4, 1)),
    (11, {"kernel_size": 3, "padding": 1, "stride": 2}, (14, 14)),
    (11, {"kernel_size": 3, "padding": 1, "stride": 2}, (5, 5)),
    (11, {"kernel_size": 3, "padding": 1, "stride": 3}, (13, 13)),
    (11, {"kernel_size": 3, "padding": 1, "stride": (1, 2)}, (6, 8)),
    (10, {"kernel_size": 3, "padding": 2, "dilation": 2}, (6, 6)),
    (10, {"kernel_size": 5, "padding": 2}, (8, 8)),
    (10, {"kernel_size": (1, 5), "padding": (0, 2)}, (4, 8)),
    (10, {"kernel_size": (3, 1), "padding": (0, 0)}, (4, 6)),
]


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the maps of several images, on a processor that gains by them in every format."""
    made: list[tuple[int, ...]] = []

    class Heard(side_by_side._Join):
        @staticmethod
        def forward(ctx: Any, images: Tensor, beside: int, pitch: int) -> Tensor:
            maps = super(Heard, Heard).forward(ctx, images, beside, pitch)
            made.append(tuple(maps.shape))
            return maps

    monkeypatch.setattr(side_by_side, "_has_units_for", lambda dtype: True)
    monkeypatch.setattr(side_by_side, "_Join", Heard)
    return made


@pytest.mark.parametrize(("batch", "settings", "size"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_torch(
    joined: list[tuple[int, ...]],
    batch: int,
    settings: dict[str, Any],
    size: tuple[int, int],
    layout: torch.memory_format,
) -> None:
    plain, ours = twins(settings, torch.float64, channels=(WIDE, WIDE))
    inputs = torch.randn(batch, WIDE, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, ours, inputs = plain.to(memory_format=layout), ours.to(memory_format=layout), inputs.to(memory_format=layout)
    for one, other in zip(convolved(ours, inputs), convolved(plain, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    assert len(joined) == 2  # the images, and the gradient of the result


def test_images_fill_the_row(joined: list[tuple[int, ...]]) -> None:
    _, ours = twins({"kernel_size": 3, "padding": 1}, channels=(WIDE, WIDE))
    ours(torch.randn(9, WIDE, 7, 7))
    ours(torch.randn(8, WIDE, 9, 9))
    assert joined == [(3, WIDE, 7, 4 * 8), (3, WIDE, 9, 3 * 10)]


def test_in_bf16_the_error_is_that_of_the_format(joined: list[tuple[int, ...]]) -> None:
    plain, ours = twins({"kernel_size": 3, "padding": 1}, channels=(WIDE, WIDE))
    inputs = torch.randn(16, WIDE, 7, 7, generator=torch.Generator().manual_seed(1))
    exact = convolved(copy.deepcopy(plain).double(), inputs.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(inputs).dtype == torch.bfloat16
        found, usual = convolved(ours, inputs), convolved(plain, inputs)
    assert joined
    for one, other, right in zip(found, usual, exact, strict=True):
        assert (one - right).norm() <= 1.2 * (other - right).norm() + 1e-6
    assert ours.weight.grad is not None and ours.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"kernel_size": 3, "padding": 1}, (8, WIDE, 10, 10)),  # wide enough by itself
        ({"kernel_size": 3, "padding": 1}, (7, WIDE, 7, 7)),  # too few images
        ({"kernel_size": 3}, (8, WIDE, 7, 7)),  # what lies between two images would not be theirs alone
        ({"kernel_size": 4, "padding": 1}, (8, WIDE, 7, 7)),
        ({"kernel_size": 1}, (8, WIDE, 7, 7)),  # a product of matrices already
        ({"kernel_size": 3, "padding": 1, "groups": 2}, (8, WIDE, 7, 7)),
    ],
)
def test_elsewhere_nothing_changes(
    joined: list[tuple[int, ...]], settings: dict[str, Any], shape: tuple[int, ...]
) -> None:
    plain, ours = twins(settings, channels=(WIDE, WIDE))
    inputs = torch.randn(shape)
    assert torch.equal(ours(inputs), plain(inputs))
    assert not joined


def test_only_a_weight_that_trains_is_worth_the_copies(joined: list[tuple[int, ...]]) -> None:
    plain, ours = twins({"kernel_size": 3, "padding": 1}, channels=(WIDE, WIDE))
    inputs = torch.randn(8, WIDE, 7, 7)
    with torch.no_grad():
        assert torch.equal(ours(inputs), plain(inputs))
    ours.requires_grad_(False)
    assert torch.equal(ours(inputs), plain(inputs))
    few, _ = twins({"kernel_size": 3, "padding": 1}, channels=(WIDE, 64))
    speed_up_convolutions(few)
    few(inputs)
    assert not joined


def test_only_formats_with_units_of_32_numbers_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = twins({"kernel_size": 3, "padding": 1}, channels=(WIDE, WIDE))
    geometry = Geometry.of(ours, (7, 7))
    for instructions, gains in (({}, False), ({"avx512_bf16": True}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(side_by_side, "cpu_capabilities", lambda given=instructions: given)
        assert side_by_side.side_by_side_pays(ours, geometry, 8, torch.bfloat16) is gains
        assert not side_by_side.side_by_side_pays(ours, geometry, 8, torch.float32)


def test_gradients_of_gradients_are_those_of_torch(joined: list[tuple[int, ...]]) -> None:
    """The two changes of shape are each other's gradient, so sharpness can be measured through them."""
    found = []
    plain, ours = twins({"kernel_size": 3, "padding": 1}, torch.float64, channels=(WIDE, WIDE))
    start = torch.randn(9, WIDE, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for layer in (ours, plain):
        inputs = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(inputs).square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), [inputs, layer.weight]))
    assert joined
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_networks_that_are_built_here_compute_so(joined: list[tuple[int, ...]]) -> None:
    model = build_model("resnet18", num_classes=3, channels=3, size=96, dropout=None).module
    model(torch.randn(8, 3, 96, 96))
    maps = [(shape[1], shape[2]) for shape in joined]
    assert maps == [(128, 12)] + [(256, 6)] * 3 + [(256, 6)] + [(512, 3)] * 3
    assert isinstance(model.conv1, nn.Conv2d)
