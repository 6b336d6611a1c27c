"""The parts of a state by name, their hash, and the first that differs."""

import copy
import math
from typing import Any

import pytest
import torch
from small_sessions import session_of

from halftone.loop.components import components, digest, first_difference
from halftone.loop.state import Progress, capture
from halftone.loop.train import train


def state_of_a_run() -> dict[str, Any]:
    session = session_of(waits=True, mode="fp16", optimizer="adamw", epochs=1)
    progress = Progress.start(session.device)
    for _ in train(session, progress, max_skipped=9):
        pass
    return copy.deepcopy(capture(session, progress))


def test_every_part_has_a_name_that_says_whose_it_is() -> None:
    names = list(components(state_of_a_run()))
    assert names[0] == "weights 0.weight"
    for name in (
        "weights 1.running_mean",
        "average module.4.weight",
        "average num_updates",
        "optimizer moment exp_avg of 0.weight",
        "optimizer moment exp_avg_sq of 4.bias",
        "optimizer group 0 lr",
        "loss scale scaling.scale",
        "random stream python.numbers",
        "random stream torch",
        "best epoch waited",
        "progress tried",
    ):
        assert name in names
    assert not any("seconds" in name for name in names)


def test_the_digest_knows_every_bit_and_no_order() -> None:
    state = state_of_a_run()
    parts = components(state)
    assert digest(parts) == digest(dict(reversed(parts.items())))
    assert len(digest(parts)) == 64
    seen = {digest(parts)}
    for name, value in parts.items():
        if isinstance(value, torch.Tensor) and value.numel():
            changed = value.clone(memory_format=torch.contiguous_format)
            changed.reshape(-1).view(torch.uint8)[0] ^= 1
            seen.add(digest({**parts, name: changed}))
        else:
            seen.add(digest({**parts, name: [value, 0]}))
        seen.add(digest({other: value for other, value in parts.items() if other != name}))
    assert len(seen) == 1 + 2 * len(parts)


ONE = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        (ONE, torch.tensor([1.0, 2.5]), "1 of 2 numbers differ, by 0.5 at the most"),
        (ONE, ONE.double(), "torch.float32 [2] and torch.float64 [2]"),
        (ONE, ONE.reshape(2, 1), "torch.float32 [2] and torch.float32 [2, 1]"),
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), "some of 2 numbers differ in their bits"),
        (torch.tensor(3), torch.tensor(4), "3 and 4"),
        (0.1, 0.1 + 2**-55, "0.1 and 0.10000000000000003"),
        (1, 1.0, "1 and 1.0"),
        (True, 1, "True and 1"),
        ([1] * 600, [1] * 599 + [2], "two values that begin [1, 1, 1"),
        (None, "None", "None and 'None'"),
    ],
)
def test_what_differs_is_said(one: Any, other: Any, how: str) -> None:
    found = first_difference({"same": 1, "part": one}, {"same": 1, "part": other})
    assert found is not None
    assert str(found).startswith(f"part: {how}")
    assert digest({"part": one}) != digest({"part": other})


@pytest.mark.parametrize("value", [ONE, torch.empty(0), math.nan, torch.tensor(math.nan), [1, 2.5, None], "é\ud800"])
def test_what_is_the_same_is_no_difference(value: Any) -> None:
    assert first_difference({"part": value}, {"part": copy.deepcopy(value)}) is None
    assert digest({"part": value}) == digest({"part": copy.deepcopy(value)})


def test_a_part_that_only_one_has_is_named() -> None:
    assert str(first_difference({"a": 1, "b": 2}, {"a": 1})) == "b: only the first has it"
    assert str(first_difference({"a": 1}, {"a": 1, "b": 2})) == "b: only the second has it"


def test_layout_in_memory_is_no_difference() -> None:
    images = torch.arange(48.0).reshape(1, 3, 4, 4)
    parts = {"part": images}, {"part": images.to(memory_format=torch.channels_last)}
    assert first_difference(*parts) is None
    assert digest(parts[0]) == digest(parts[1])
