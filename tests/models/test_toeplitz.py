"""Convolutions of maps of a few pixels as a product of matrices: the same numbers as torch's own, faster."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.models import toeplitz
from halftone.models.build import build_model
from halftone.models.cpu_convolutions import speed_up_convolutions
from halftone.precision.config import PrecisionConfig
from halftone.precision.verbs import Precision
from layers import convolved, twins

CASES: list[tuple[int, dict[str, Any], tuple[int, int]]] = [
    (1, {"kernel_size": 3, "padding": 1}, (1, 1)),
    (50, {"kernel_size": 3, "padding": 1}, (2, 2)),
    (120, {"kernel_size": 3, "padding": 1}, (3, 3)),
    (120, {"kernel_size": 3, "padding": 1, "stride": 2}, (3, 3)),
    (60, {"kernel_size": 3, "padding": 2, "dilation": 2}, (2, 2)),
    (60, {"kernel_size": (1, 3), "padding": (0, 1)}, (1, 3)),
    (99, {"kernel_size": 5, "padding": 2, "bias": False}, (2, 3)),
    (99, {"kernel_size": 2}, (2, 2)),
    (30, {"kernel_size": 2, "padding": 1, "stride": (1, 2)}, (1, 2)),
]


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The number formats of the matrices that were made."""
    made: list[torch.dtype] = []

    class Heard(toeplitz._Toeplitz):
        @staticmethod
        def forward(ctx: Any, *parts: Any) -> Tensor:
            made.append(parts[-1])
            return super(Heard, Heard).forward(ctx, *parts)

    monkeypatch.setattr(toeplitz, "_Toeplitz", Heard)
    return made


@pytest.mark.parametrize(("batch", "settings", "size"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_torch(
    matrices: list[torch.dtype],
    batch: int,
    settings: dict[str, Any],
    size: tuple[int, int],
    layout: torch.memory_format,
) -> None:
    plain, ours = twins(settings, torch.float64)
    inputs = torch.randn(batch, 6, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, ours, inputs = plain.to(memory_format=layout), ours.to(memory_format=layout), inputs.to(memory_format=layout)
    for one, other in zip(convolved(ours, inputs), convolved(plain, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert matrices == [torch.float64]


def test_in_bf16_the_error_is_that_of_the_format(matrices: list[torch.dtype]) -> None:
    plain, ours = twins({"kernel_size": 3, "padding": 1})
    inputs = torch.randn(120, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    exact = convolved(copy.deepcopy(plain).double(), inputs.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(inputs).dtype == torch.bfloat16
        found, usual = convolved(ours, inputs), convolved(plain, inputs)
    assert matrices == [torch.bfloat16] * 2
    for one, other, right in zip(found, usual, exact, strict=True):
        assert (one - right).norm() <= 1.2 * (other - right).norm() + 1e-6
    assert ours.weight.grad is not None and ours.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"kernel_size": 3, "padding": 1}, (20, 6, 3, 3)),  # too few images to repay the matrix
        ({"kernel_size": 3, "padding": 1}, (200, 6, 4, 4)),  # too large a map
        ({"kernel_size": 1}, (200, 6, 1, 1)),  # nothing falls on padding
        ({"kernel_size": 3, "padding": 1, "groups": 2}, (200, 6, 3, 3)),
        ({"kernel_size": 3, "padding": "same"}, (200, 6, 3, 3)),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (200, 6, 3, 3)),
        ({"kernel_size": 3, "padding": 1}, (6, 3, 3)),  # no batch
    ],
)
def test_elsewhere_nothing_changes(
    matrices: list[torch.dtype], settings: dict[str, Any], shape: tuple[int, ...]
) -> None:
    plain, ours = twins(settings)
    inputs = torch.randn(shape)
    assert torch.equal(ours(inputs), plain(inputs))
    assert not matrices


def test_a_matrix_too_large_is_not_made(matrices: list[torch.dtype], monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = twins({"kernel_size": 3, "padding": 1})
    ours(torch.randn(64, 6, 2, 2))
    monkeypatch.setattr(toeplitz, "_MOST_WEIGHTS", 100)
    ours(torch.randn(64, 6, 2, 2))
    assert len(matrices) == 1


def test_errors_of_torch_stay(matrices: list[torch.dtype]) -> None:
    _, ours = twins({"kernel_size": 3})
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        ours(torch.randn(64, 6, 2, 2))
    _, ours = twins({"kernel_size": 3, "padding": 1})
    with pytest.raises(RuntimeError):
        ours(torch.randn(64, 5, 2, 2))


def test_frozen_weights_get_no_gradient_and_a_kept_graph_is_passed_twice() -> None:
    _, ours = twins({"kernel_size": 3, "padding": 1})
    inputs = torch.randn(64, 6, 2, 2, requires_grad=True)
    loss = ours(inputs).square().sum()
    loss.backward(retain_graph=True)
    assert ours.weight.grad is not None
    once = ours.weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(ours.weight.grad, 2 * once)
    ours.weight.requires_grad_(False).grad = None
    ours(inputs).sum().backward()
    assert ours.weight.grad is None


@pytest.mark.parametrize("settings", [{"mode": "bf16"}, {"mode": "bf16-true"}, {"mode": "fp16", "emulate": "fp16"}])
def test_every_precision_trains_as_with_torch_s_own(settings: dict[str, Any], matrices: list[torch.dtype]) -> None:
    ends = []
    for unrolled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        if unrolled:
            speed_up_convolutions(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        precision = Precision(PrecisionConfig.parse(settings), model, optimizer)
        for _ in range(3):
            inputs, targets = torch.randn(64, 4, 2, 2), torch.randint(0, 3, (64,))
            with precision.forward():
                loss = F.cross_entropy(model(inputs), targets)
            precision.backward(loss)
            precision.step()
        ends.append([value.detach().clone() for value in model.parameters()])
    assert len(matrices) == 3
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-3)


def test_copies_compute_with_their_own_weights(matrices: list[torch.dtype]) -> None:
    _, ours = twins({"kernel_size": 3, "padding": 1})
    copied, inputs = copy.deepcopy(ours), torch.randn(64, 6, 2, 2)
    with torch.no_grad():
        copied.weight.zero_()
        copied.bias.zero_()  # type: ignore[union-attr]
    assert not copied(inputs).any() and ours(inputs).any()
    assert len(matrices) == 2


def test_networks_that_are_built_here_compute_so(matrices: list[torch.dtype]) -> None:
    model = build_model("resnet18", num_classes=3, channels=3, size=32, dropout=None).module
    model(torch.randn(2, 3, 32, 32))
    assert len(matrices) == 3  # of the last stage, which sees one pixel; its first convolution sees two by two
