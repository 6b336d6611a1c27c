"""How two files differ."""

import math

import pytest
import torch
from torch import nn

from halftone.weights.difference import compare

ONE = {"a": torch.tensor([3.0, 4.0]), "b": torch.ones(2, 2), "n": torch.tensor(5)}


def test_the_same_is_identical_to_the_bit() -> None:
    found = compare(ONE, {name: tensor.clone() for name, tensor in ONE.items()})
    assert found.identical
    assert str(found) == "identical to the bit: 3 tensors"
    assert compare({"x": torch.tensor([float("nan")])}, {"x": torch.tensor([float("nan")])}).identical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.tensor([1.0]), torch.tensor([1.0 + 2**-23])),
        (torch.tensor([1.0]), torch.tensor([1.0]).double()),
        (torch.tensor(5), torch.tensor(6)),
    ],
)
def test_a_bit_or_a_type_is_a_change(one: torch.Tensor, other: torch.Tensor) -> None:
    found = compare({"x": one}, {"x": other})
    assert not found.identical
    assert found.num_same == 0


def test_changes_are_measured_and_ranked() -> None:
    other = {"a": torch.tensor([3.0, -4.0]), "b": torch.full((2, 2), 1.1), "n": torch.tensor(5)}
    found = compare(ONE, other)
    assert [one.name for one in found.changed] == ["a", "b"]
    a, b = found.changed
    assert a.relative == pytest.approx(8 / 5)
    assert a.cosine == pytest.approx((9 - 16) / 25)
    assert a.largest == 8
    assert b.relative == pytest.approx(0.1, rel=1e-5)
    assert b.cosine == pytest.approx(1)
    assert str(found) == "1 tensors identical to the bit, 2 changed"


def test_what_cannot_be_measured_comes_first() -> None:
    broken = compare({"z": torch.ones(1), "a": torch.ones(1)}, {"z": torch.tensor([math.inf]), "a": torch.zeros(1)})
    assert [(one.name, one.relative) for one in broken.changed] == [("z", None), ("a", 1.0)]
    fresh = compare({"a": torch.zeros(2)}, {"a": torch.ones(2)}).changed[0]
    assert (fresh.relative, fresh.cosine, fresh.largest) == (None, None, 1.0)


def test_other_tensors_and_other_shapes() -> None:
    found = compare({**ONE, "old": torch.ones(1)}, {**ONE, "b": torch.ones(3, 2), "new": torch.ones(1)})
    assert (found.only_first, found.only_second) == (("old",), ("new",))
    assert [(one.name, one.first, one.second) for one in found.reshaped] == [("b", (2, 2), (3, 2))]
    assert str(found) == (
        "2 tensors identical to the bit, 0 changed, 1 of other shapes, 1 only in the first, 1 only in the second"
    )


@pytest.mark.parametrize("turned", [False, True])
def test_prefixes_of_wrappers_do_not_count(turned: bool) -> None:
    plain = nn.Linear(2, 2).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in plain.items()}
    assert compare(*((wrapped, plain) if turned else (plain, wrapped))).identical
    assert compare(wrapped, wrapped).identical
