"""How far the tensors of one weight file are from those of another."""

from collections.abc import Mapping

import torch
from torch import Tensor

from halftone.base.records import Record
from halftone.weights.facts import short_type
from halftone.weights.match import without_prefix


class TensorDifference(Record):
    """A tensor that both files have, in the same shape, with other numbers or of another type."""

    name: str
    relative: float | None
    """The norm of the difference as a share of the first one's norm; None where that is zero or not finite."""
    cosine: float | None
    """Of the angle between both; None where one is zero or not finite."""
    largest: float | None
    """The largest magnitude of a difference; None where one is not finite."""
    types: tuple[str, str]


class Reshaped(Record):
    """A tensor of another shape in each file."""

    name: str
    first: tuple[int, ...]
    second: tuple[int, ...]


class Difference(Record):
    """Two files. The names of the second are without what wrappers put before them, where that makes more fit."""

    num_same: int
    """Tensors that are the same to the bit, type included."""
    changed: tuple[TensorDifference, ...]
    """Largest relative change first; those that cannot be measured before all."""
    reshaped: tuple[Reshaped, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Tell whether both hold the same tensors, to the bit."""
        return not (self.changed or self.reshaped or self.only_first or self.only_second)

    def __str__(self) -> str:
        if self.identical:
            return f"identical to the bit: {self.num_same} tensors"
        parts = [f"{self.num_same} tensors identical to the bit, {len(self.changed)} changed"]
        if self.reshaped:
            parts.append(f"{len(self.reshaped)} of other shapes")
        for number, words in ((len(self.only_first), "first"), (len(self.only_second), "second")):
            if number:
                parts.append(f"{number} only in the {words}")
        return ", ".join(parts)


def compare(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Difference:
    """Compare two files tensor by tensor; prefixes of wrappers are removed from whichever has them."""
    second = without_prefix(second, first)
    first = without_prefix(first, second)
    same, changed, reshaped = 0, [], []
    for name, one in first.items():
        if name not in second:
            continue
        other = second[name]
        if one.shape != other.shape:
            reshaped.append(Reshaped(name=name, first=tuple(one.shape), second=tuple(other.shape)))
        elif one.dtype == other.dtype and _same_bits(one, other):
            same += 1
        else:
            changed.append(_difference(name, one, other))
    changed.sort(key=lambda found: (found.relative is not None, -(found.relative or 0.0), found.name))
    return Difference(
        num_same=same,
        changed=tuple(changed),
        reshaped=tuple(reshaped),
        only_first=tuple(name for name in first if name not in second),
        only_second=tuple(name for name in second if name not in first),
    )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Compare bytes: 0 and -0 differ, a NaN equals itself."""
    bits = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*bits)


def _difference(name: str, one: Tensor, other: Tensor) -> TensorDifference:
    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    a, b = (tensor.detach().reshape(-1).to(wide) for tensor in (one, other))
    types = (short_type(one.dtype), short_type(other.dtype))
    if not (a.isfinite().all() and b.isfinite().all()):
        return TensorDifference(name=name, relative=None, cosine=None, largest=None, types=types)
    own, given = float(a.norm()), float(b.norm())
    product = float(torch.vdot(a, b).real)
    return TensorDifference(
        name=name,
        relative=float((b - a).norm()) / own if own else None,
        cosine=max(-1.0, min(1.0, product / own / given)) if own and given else None,
        largest=float((b - a).abs().max()),
        types=types,
    )
