"""The parts of a captured state by name: to hash them, and to say which is the first that differs."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from halftone.loop.state import clock_fields

Components = Mapping[str, Any]
"""Tensors and plain values by the name of what they belong to."""
_CAUSES_FIRST = ("model", "unlisted", "average", "optimizer", "precision", "schedule", "best", "random", "progress")
_TITLES = {
    "model": "weights",
    "unlisted": "unlisted buffer",
    "average": "average",
    "precision": "loss scale",
    "schedule": "schedule",
    "best": "best epoch",
    "random": "random stream",
    "progress": "progress",
    "parameters": "names of the parameters",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One component that two states do not share."""

    name: str
    how: str
    """What either has, as a sentence."""

    def __str__(self) -> str:
        return f"{self.name}: {self.how}"


def components(state: Mapping[str, Any]) -> dict[str, Any]:
    """Name every part of a state that `capture` returned, or a checkpoint held; what the clock decides is left out.

    Returns:
        Tensors, numbers, texts and flat lists of these, what the others follow from first.
    """
    known = sorted(state, key=lambda part: _CAUSES_FIRST.index(part) if part in _CAUSES_FIRST else len(_CAUSES_FIRST))
    found: dict[str, Any] = {}
    for part in known:
        if part == "optimizer":
            found |= _of_optimizer(state[part], state.get("parameters", []))
            continue
        clock = clock_fields() if part == "progress" else set()
        for path, value in _leaves(state[part]):
            if path not in clock:
                found[f"{_TITLES.get(part, part)} {path}".rstrip()] = value
    return found


def _of_optimizer(state: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Name the optimizer's memory by its parameters."""
    found: dict[str, Any] = {}
    for index, values in state["state"].items():
        owner = names[index] if index < len(names) else f"parameter {index}"
        found |= {f"optimizer moment {moment} of {owner}": value for moment, value in _leaves(values)}
    for number, group in enumerate(state["param_groups"]):
        found |= {f"optimizer group {number} {setting}": value for setting, value in _leaves(group)}
    return found


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def digest(parts: Components) -> str:
    """Return a SHA-256 over all components: sorted names, types, shapes and bytes, as 64 hexadecimal digits."""
    hasher = hashlib.sha256()
    for name in sorted(parts):
        kind, content = _exactly(parts[name])
        for piece in (name.encode("utf-8", "surrogatepass"), kind.encode(), content):
            hasher.update(len(piece).to_bytes(8, "little"))
            hasher.update(piece)
    return hasher.hexdigest()


def first_difference(one: Components, other: Components) -> Difference | None:
    """Return the first component, in the order of `one`, that is not the same to the last bit; None if all are."""
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other:
            return Difference(name, f"only the {'first' if name in one else 'second'} has it")
        if _exactly(one[name]) != _exactly(other[name]):
            return Difference(name, _compared(one[name], other[name]))
    return None


def _exactly(value: Any) -> tuple[str, bytes]:
    """Return the kind of a value and its bytes; two values have the same if they are the same to the last bit."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1)
        content = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return f"{value.dtype} {list(value.shape)}", content
    if isinstance(value, float):
        return "float", value.hex().encode()
    if isinstance(value, list | tuple):
        return "list", b"".join(f"{len(content)}:{kind}:".encode() + content for kind, content in map(_exactly, value))
    return type(value).__name__, repr(value).encode("utf-8", "surrogatepass")


def _compared(one: Any, other: Any) -> str:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        texts = [text if len(text) <= 40 else f"{text[:40]}..." for text in map(repr, (one, other))]
        return f"{texts[0]} and {texts[1]}" if texts[0] != texts[1] else f"two values that begin {texts[0]}"
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"{_exactly(one)[0]} and {_exactly(other)[0]}"
    left, right = (side.detach().cpu().reshape(-1) for side in (one, other))
    if left.numel() == 1:
        return f"{left.item()!r} and {right.item()!r}"
    unequal = left.ne(right)
    apart = (left.double() - right.double()).abs()[unequal]
    most = f", by {float(apart.max()):.2g} at the most" if apart.numel() else " in their bits"
    return f"{int(unequal.sum()) or 'some'} of {left.numel()} numbers differ{most}"
