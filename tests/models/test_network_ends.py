"""Heads and stems, found in networks whose answer is known."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from halftone.models.build import take_module
from halftone.models.head import find_head, find_stem, fold_channels, set_dropout, set_input_channels


def chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize(
    ("network", "head"),
    [
        (chain(body=nn.Linear(4, 8), head=nn.Linear(8, 5)), ("head",)),
        (chain(body=nn.Linear(4, 5), head=nn.Linear(5, 5)), ("head",)),
        (chain(body=nn.Conv2d(3, 5, 3), head=nn.Conv2d(5, 5, 1)), ("head",)),
        (chain(body=nn.Conv2d(3, 5, 3)), ()),
        (chain(body=nn.Linear(4, 8)), ()),
        (nn.Linear(4, 5), ("",)),
        (chain(body=nn.Linear(4, 8), aux=nn.Linear(8, 5), head=nn.Linear(8, 5)), ("aux", "head")),
        (
            chain(head=nn.Linear(8, 5), AuxLogits=chain(conv=nn.Conv2d(8, 5, 1), fc=nn.Linear(5, 5))),
            ("head", "AuxLogits.fc"),
        ),
        (chain(head=chain(norm=nn.BatchNorm1d(4), drop=nn.Dropout(), fc=nn.Linear(4, 5))), ("head.fc",)),
        (chain(body=nn.Linear(4, 8), head=nn.LazyLinear(5)), ("head",)),
    ],
)
def test_head(network: nn.Module, head: tuple[str, ...]) -> None:
    assert find_head(network, 5) == head


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ({"classifier": "head"}, ("head", "last")),
        ({"classifier": ("head", "last")}, ("head", "last")),
        ({"classifier": "gone"}, ("last",)),
        ({"classifier": None}, ("last",)),
        ({}, ("last",)),
        ("not a mapping", ("last",)),
    ],
)
def test_a_network_may_declare_its_head_as_timm_does(declared: Any, head: tuple[str, ...]) -> None:
    network = chain(head=nn.Linear(4, 5), inner=nn.Linear(5, 5), last=nn.Linear(5, 5))
    network.pretrained_cfg = declared
    assert find_head(network, 5) == head


def test_stem() -> None:
    network = chain(
        depthwise=nn.Conv2d(3, 3, 3, groups=3),
        first=nn.Conv2d(3, 8, 3),
        second=nn.Conv2d(8, 8, 3),
        gray=nn.Conv2d(1, 8, 1),
    )
    assert find_stem(network) == ("first", "gray")
    assert find_stem(nn.Linear(3, 4)) == ()


@pytest.mark.parametrize("bias", [True, False])
def test_one_channel_gives_the_answer_of_three_equal_ones(bias: bool) -> None:
    torch.manual_seed(0)
    network = chain(
        first=nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2, bias=bias, padding_mode="reflect"), act=nn.ReLU()
    ).double()
    gray = torch.rand(2, 1, 9, 9, dtype=torch.float64)
    expected = network(gray.expand(-1, 3, -1, -1))
    set_input_channels(network, 1)
    first = network.get_submodule("first")
    assert (first.in_channels, first.weight.shape, first.weight.dtype) == (1, (8, 1, 3, 3), torch.float64)
    torch.testing.assert_close(network(gray), expected)
    set_input_channels(network, 3)
    torch.testing.assert_close(network(gray.expand(-1, 3, -1, -1)), expected)


def test_channels_that_are_right_are_left_alone() -> None:
    network = chain(first=nn.Conv2d(3, 8, 3))
    before = network.get_submodule("first")
    set_input_channels(network, 3)
    assert network.get_submodule("first") is before
    set_input_channels(nn.Linear(2, 2), 1)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 3), (1, 1)])
def test_folding_keeps_the_sum(before: int, after: int) -> None:
    weight = torch.rand(4, before, 3, 3, dtype=torch.float64)
    folded = fold_channels(weight, after)
    assert folded.shape == (4, after, 3, 3)
    torch.testing.assert_close(folded.sum(1), weight.sum(1))


def test_dropout_of_every_kind_is_set_and_counted() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(), nn.AlphaDropout(), nn.Linear(2, 2))
    assert set_dropout(network, 0.125) == 3
    assert [layer.p for layer in list(network)[:3]] == [0.125] * 3
    assert set_dropout(nn.Linear(2, 2), 0.5) == 0


def test_a_module_from_python_is_taken_as_it_is() -> None:
    network = chain(stem=nn.Conv2d(1, 4, 3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(4, 5))
    built = take_module(network, num_classes=5, dropout=None)
    assert built.module is network
    assert (built.head, built.stem) == (("fc",), ("stem",))
