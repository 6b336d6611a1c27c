"""Agreement of gradients, with numpy in double as the oracle."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from halftone.precision.agreement import agreement, gradients_of

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (5, 7)}


def some(seed: int, *, noise: float = 0.0, zeros: float = 0.0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(7)
    base = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    random.manual_seed(seed)
    found = {name: value + noise * torch.randn(value.shape, generator=random) for name, value in base.items()}
    return {
        name: value.masked_fill(torch.rand(value.shape, generator=random) < zeros, 0) for name, value in found.items()
    }


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.3, 30.0])
@pytest.mark.parametrize("zeros", [0.0, 0.2])
def test_numbers_are_those_of_numpy(noise: float, zeros: float) -> None:
    found, wanted = some(1, noise=noise, zeros=zeros), some(2, zeros=0.1)
    result = agreement(found, wanted)
    parts = [[side[name].double().flatten().numpy() for name in SHAPES] for side in (found, wanted)]
    ones, others = ([*part, np.concatenate(part)] for part in parts)
    for row, one, other in zip([*result.layers, result], ones, others, strict=True):
        assert row.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        assert row.relative_error == pytest.approx(np.linalg.norm(one - other) / np.linalg.norm(other))
        assert row.underflow == pytest.approx(np.mean(one[other != 0] == 0))
    assert [layer.name for layer in result.layers] == list(SHAPES)
    assert result.worst == min(result.layers, key=lambda layer: layer.cosine)


def test_the_same_gradient_agrees_and_its_opposite_does_not() -> None:
    wanted = some(1)
    same = agreement(wanted, wanted)
    assert (same.cosine, same.relative_error, same.underflow) == (pytest.approx(1), 0, 0)
    opposite = agreement({name: -value for name, value in wanted.items()}, wanted)
    assert (opposite.cosine, opposite.relative_error) == (pytest.approx(-1), pytest.approx(2))
    longer = agreement({name: 3 * value for name, value in wanted.items()}, wanted)
    assert (longer.cosine, longer.relative_error) == (pytest.approx(1), pytest.approx(2))


def test_a_missing_gradient_counts_as_zero() -> None:
    wanted = some(1)
    found = {name: value for name, value in wanted.items() if name != "conv.bias"}
    result = agreement(found, wanted)
    bias = next(layer for layer in result.layers if layer.name == "conv.bias")
    assert (bias.cosine, bias.relative_error, bias.underflow) == (0, 1, 1)
    assert result.worst is bias


def test_where_nothing_is_wanted_nothing_is_lost() -> None:
    zeros, ones = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    both = agreement(zeros, zeros)
    assert (both.cosine, both.relative_error, both.underflow) == (1, 0, 0)
    extra = agreement(ones, zeros)
    assert (extra.cosine, extra.underflow) == (0, 0)
    assert extra.relative_error == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_shows(value: float) -> None:
    found = some(1)
    found["conv.bias"][0] = value
    result = agreement(found, some(1))
    assert math.isnan(result.cosine)
    assert not math.isfinite(result.relative_error)


def test_gradients_too_large_to_be_squared_in_fp32_are_compared() -> None:
    large = {"a": torch.full((4,), 1e30)}
    assert agreement(large, large).cosine == pytest.approx(1)


def test_gradients_are_taken_off_the_network_as_copies_in_fp32() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)}).bfloat16()
    model["used"](torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()
    kept = model["used"].weight.grad
    found = gradients_of(model)
    assert set(found) == {"used.weight", "used.bias"}
    assert found["used.weight"].dtype == torch.float32
    assert all(parameter.grad is None for parameter in model.parameters())
    assert kept is not None
    kept.zero_()
    assert found["used.weight"].tolist() == [[1.0, 1.0]]
