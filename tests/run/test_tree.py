"""Trees as tensors plus JSON: whatever goes in comes out, and nothing else comes in."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from halftone.base.errors import ModelFileError
from halftone.run.tree import flatten, unflatten
from halftone.weights.files import load_sealed, save_sealed

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64),
]


def equal(one: Any, other: Any) -> bool:
    """Tell whether two trees are the same, types, signs of zero and order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return torch.equal(*(side.reshape(-1).contiguous().view(torch.uint8) for side in (one, other)))
    if isinstance(one, dict):
        return equal(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return math.isnan(one) == math.isnan(other) and (
            math.isnan(one) or (one == other and math.copysign(1, one) == math.copysign(1, other))
        )
    return bool(one == other)


def tensor(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.arange(math.prod(shape)).reshape(shape).to(dtype)


shapes = st.sampled_from([(), (0,), (3,), (2, 3), (2, 0, 1)])
tensors = st.builds(tensor, st.sampled_from(DTYPES), shapes)
numbers = st.one_of(st.booleans(), st.integers(), st.floats(), st.integers(min_value=2**64, max_value=2**300))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["$tensor", "$items", "$", "$tuple", "t0", ""]
)
leaves = st.one_of(st.none(), numbers, text, tensors)
keys = st.one_of(
    text, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.tuples(st.integers(), text)
)


def branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    return (
        lists | lists.map(tuple) | st.dictionaries(text, inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
    )


@given(st.recursive(leaves, branches, max_leaves=15))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_tree_comes_back_through_json(tree: Any) -> None:
    found, plain = flatten(tree)
    text = json.dumps(plain, allow_nan=False)
    assert equal(unflatten(found, json.loads(text)), tree)


@given(st.recursive(leaves, branches, max_leaves=15))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_tree_comes_back_through_a_file(tmp_path: Path, tree: Any) -> None:
    found, plain = flatten(tree)
    save_sealed(tmp_path / "tree.safetensors", found, {"state": plain})
    stored = load_sealed(tmp_path / "tree.safetensors")
    assert equal(unflatten(stored.tensors, stored.header["state"]), tree)


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        5e-324,
        1.7976931348623157e308,
        0.1,
        2**63,
        -(2**200),
        True,
        None,
        "",
        "\0é😀",
    ],
)
def test_single_values(value: Any) -> None:
    found, plain = flatten({"x": value})
    assert equal(unflatten(found, json.loads(json.dumps(plain, allow_nan=False))), {"x": value})


def test_numbers_of_numpy_become_plain() -> None:
    _, plain = flatten([np.float64(0.1), np.float64("inf")])
    assert equal(unflatten({}, plain), [np.float64(0.1), math.inf])
    assert json.loads(json.dumps(plain)) == [0.1, {"$float": "inf"}]


def test_the_states_that_checkpoints_hold() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    version, numbers, gauss = random.getstate()
    tree = {
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "random": {"python": (version, numbers, gauss), "torch": torch.get_rng_state()},
    }
    found, plain = flatten(tree)
    back = unflatten(found, json.loads(json.dumps(plain)))
    assert equal(back, tree)
    assert list(back["optimizer"]["state"]) == [0, 1]
    torch.optim.AdamW(model.parameters()).load_state_dict(back["optimizer"])
    random.setstate(back["random"]["python"])


@pytest.mark.parametrize(
    "thing", [object(), {1, 2}, b"bytes", np.ones(2), np.int64(3), lambda: 0, 1j, torch.float32, Path()]
)
def test_what_cannot_be_saved_is_said_before_anything_is_written(thing: Any) -> None:
    for tree in (thing, [thing], {"a": {"b": (thing,)}}):
        with pytest.raises(TypeError, match=f"a {type(thing).__name__} cannot be saved"):
            flatten(tree)


def deep(depth: int) -> Any:
    tree: Any = 0
    for _ in range(depth):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        {"$tensor": "t9"},
        {"$tensor": ["t0"]},
        {"$tensor": {}},
        {"$items": 3},
        {"$items": [1]},
        {"$items": [[1]]},
        {"$items": [[[1], 2]]},
        {"$items": [[{"a": 1}, 2]]},
        {"$tuple": 3},
        {"$tuple": None},
        {"$float": "huge"},
        {"$float": None},
        {"$new": 1},
        {"a": 1, "$float": "x"},
        [{"b": {"$tensor": "nothing"}}],
        deep(100_000),
    ],
)
def test_a_tree_that_is_none_of_ours_is_refused(tree: Any) -> None:
    with pytest.raises(ModelFileError, match="the state is malformed"):
        unflatten({"t0": torch.ones(1)}, tree)


WEIGHT = torch.arange(6.0)


@pytest.mark.parametrize("tree", [[WEIGHT, WEIGHT], {"all": WEIGHT, "part": WEIGHT[2:4], "every other": WEIGHT[::2]}])
def test_tensors_that_share_memory_come_back_apart(tmp_path: Path, tree: Any) -> None:
    found, plain = flatten(tree)
    save_sealed(tmp_path / "tree.safetensors", found, {"state": plain})
    stored = load_sealed(tmp_path / "tree.safetensors")
    assert equal(unflatten(stored.tensors, stored.header["state"]), tree)
