"""A tree of dictionaries, lists, numbers, strings and tensors as tensors plus JSON, and back. No pickle."""

import math
from typing import Any

from torch import Tensor

from halftone.base.errors import ModelFileError


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Take the tensors out of a tree.

    Returns:
        The tensors by number, and the tree as JSON values with references in their place. Tuples, keys that are
        not strings, and numbers that JSON lacks are marked so that they come back as they were.

    Raises:
        TypeError: it holds something else.
    """
    tensors: dict[str, Tensor] = {}

    def take(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"t{len(tensors)}"
            tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: take(item) for key, item in value.items()}
            return {"$items": [[take(key), take(item)] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"$tuple": [take(item) for item in value]}
        if isinstance(value, list):
            return [take(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": str(float(value))}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a {type(value).__name__} cannot be saved")

    return tensors, take(tree)


def unflatten(tensors: dict[str, Tensor], tree: Any) -> Any:
    """Put the tensors back.

    Raises:
        ModelFileError: a reference leads nowhere, or the tree is none of ours.
    """
    try:
        return _put_back(tensors, tree)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"the state is malformed: {type(error).__name__}: {error}") from error


def _put_back(tensors: dict[str, Tensor], tree: Any) -> Any:
    if isinstance(tree, list):
        return [_put_back(tensors, item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    mark = next((key for key in tree if key.startswith("$")), None)
    match mark:
        case None:
            return {key: _put_back(tensors, item) for key, item in tree.items()}
        case "$tensor":
            return tensors[tree[mark]]
        case "$items":
            return {_put_back(tensors, key): _put_back(tensors, item) for key, item in tree[mark]}
        case "$tuple":
            return tuple(_put_back(tensors, item) for item in tree[mark])
        case "$float":
            return float(tree[mark])
        case _:
            raise ValueError(f"the mark {mark} is not known")
