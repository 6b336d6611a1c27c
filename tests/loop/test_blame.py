"""A run that diverges names the layer in which the numbers stop being finite."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import Diverged
from halftone.run.recipe import Recipe
from halftone.run.training import training
from samples import wish, write_npz


class Loud(nn.Module):
    """Multiplies; the product of small numbers and a large factor passes fp16's end."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor.to(images.dtype)


class LoudGradient(torch.autograd.Function):
    """Hands numbers on, and a gradient that is not finite back."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


class Backward(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return LoudGradient.apply(values)


def network(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *between, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def message(tmp_path: Path, model: nn.Module, precision: dict[str, object]) -> tuple[str, str]:
    path = write_npz(tmp_path / "tiny.npz")
    recipe: Recipe = wish(path, tmp_path, precision={**precision, "max_skipped": 3}, optimizer="sgd", lr=0.001)
    with pytest.raises(Diverged) as caught:
        list(training(recipe, model=model))
    return str(caught.value), caught.value.hint


def test_an_output_that_overflows_fp16_is_named_with_the_remedy(tmp_path: Path) -> None:
    said, hint = message(tmp_path, network(nn.ReLU(), Loud(3e6)), {"emulate": "fp16"})
    assert "3 steps in a row" in said
    assert "the output of layer '2' is not finite" in said
    assert "it overflows fp16, which ends at 65504" in said
    assert "--precision.layers 2=fp32" in hint


def test_a_gradient_that_is_not_finite_is_named(tmp_path: Path) -> None:
    said, hint = message(tmp_path, network(Backward()), {"mode": "fp32"})
    assert "the gradient in layer '0' is not finite" in said
    assert "--lr" in hint


def test_in_fp32_the_format_is_not_blamed(tmp_path: Path) -> None:
    said, hint = message(tmp_path, network(Loud(float("inf"))), {"mode": "fp32"})
    assert "the output of layer '1' is not finite" in said
    assert "overflows fp16" not in said
    assert "--optimizer.clip" in hint
