"""Rows of a head carried over by the names of classes."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn

from halftone.weights.head_rows import match_classes
from halftone.weights.match import load_matching


def network(classes: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=nn.Linear(3, 4), head=nn.Linear(4, classes)))


def convolutional(classes: int) -> nn.Sequential:
    """A head as that of SqueezeNet."""
    head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 1), head=head))


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    ("stored", "wanted", "rows"),
    [
        (["cat", "dog", "fox"], ["dog", "bear", "cat"], (1, None, 0)),
        (["Sea Lion", "t-shirt"], ["T_Shirt", "sea-lion"], (1, 0)),
        (["Cat", "cat"], ["cat"], (1,)),  # exactly, before loosely
        (["Cat", "CAT"], ["cat"], (None,)),  # which of them?
        (["cat"], ["Cat", "CAT"], (None, None)),
        (["cat"], ["cat", "CAT"], (0, None)),  # the row has found its class
        (["a"], ["b"], (None,)),
    ],
)
def test_classes_are_found_by_name(stored: list[str], wanted: list[str], rows: tuple[int | None, ...]) -> None:
    assert match_classes(stored, wanted).rows == rows


@given(some.lists(some.text(max_size=3), unique=True, max_size=6), some.lists(some.text(max_size=3), unique=True))
def test_no_row_is_used_twice_and_equal_names_meet(stored: list[str], wanted: list[str]) -> None:
    found = match_classes(stored, wanted)
    used = [row for row in found.rows if row is not None]
    assert len(set(used)) == len(used) == len(found.names)
    for name, row in zip(wanted, found.rows, strict=True):
        assert name not in stored or row == stored.index(name)


@pytest.mark.parametrize(("build", "layer"), [(network, "head"), (convolutional, "head.1")])
def test_known_rows_are_carried_over_and_others_stay_fresh(build, layer: str) -> None:  # type: ignore[no-untyped-def]
    source, target = copied(build(3)), build(4)
    before = copied(target)
    rows = match_classes(["cat", "dog", "fox"], ["ant", "Fox", "bee", "cat"])
    account = load_matching(target, source, head=(layer,), rows=rows)
    for kind in ("weight", "bias"):
        name = f"{layer}.{kind}"
        now = target.state_dict()[name]
        assert torch.equal(now[[1, 3]], source[name][[2, 0]])
        assert torch.equal(now[[0, 2]], before[name][[0, 2]])
    assert account.fresh == account.missing == account.unused == ()
    assert str(account) == "4 tensors loaded; head: 2 of 4 classes carried over by name (Fox, cat)"


def test_another_order_of_the_same_classes_is_put_right() -> None:
    source, target = copied(network(3)), network(3)
    load_matching(target, source, head=("head",), rows=match_classes(["a", "b", "c"], ["c", "a", "b"]))
    assert torch.equal(target.head.weight, source["head.weight"][[2, 0, 1]])


def test_nothing_in_common_leaves_the_head_fresh() -> None:
    source, target = copied(network(3)), network(3)
    before = copied(target)
    account = load_matching(target, source, head=("head",), rows=match_classes(["a", "b", "c"], ["x", "y", "z"]))
    assert account.fresh == ("head.weight", "head.bias")
    assert account.carried is None
    assert torch.equal(target.head.weight, before["head.weight"])


def test_a_head_of_another_width_cannot_give_its_rows() -> None:
    source, target = copied(network(3)), network(2)
    source["head.weight"] = torch.ones(3, 9)
    account = load_matching(target, source, head=("head",), rows=match_classes(["a", "b", "c"], ["a", "b"]))
    assert account.fresh == ("head.weight", "head.bias")  # nor its bias alone


def test_rows_of_another_precision_are_converted() -> None:
    source, target = copied(network(2)), network(2)
    source = {name: tensor.half() for name, tensor in source.items()}
    load_matching(target, source, head=("head",), rows=match_classes(["a", "b"], ["b", "c"]))
    assert torch.equal(target.head.weight[0], source["head.weight"][1].float())


def test_rows_that_are_not_finite_are_refused() -> None:
    from halftone.base.errors import ModelFileError

    source, target = copied(network(2)), network(2)
    source["head.bias"][1] = float("nan")
    with pytest.raises(ModelFileError, match=r"not finite: head\.bias"):
        load_matching(target, source, head=("head",), rows=match_classes(["a", "b"], ["b", "c"]))
    load_matching(target, source, head=("head",), rows=match_classes(["a", "b"], ["a", "c"]))  # that row stays behind
