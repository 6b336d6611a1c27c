"""What can be said of the tensors of a weight file, one by one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from halftone.base.records import Record


class Half(Record):
    """What fp16 would make of a tensor, as shares of its numbers."""

    overflow: float
    """Become infinite: beyond 65,504."""
    underflow: float
    """Become zero and are not."""
    subnormal: float
    """Keep fewer bits than usual: below 2^-14 in magnitude."""


class TensorFacts(Record):
    """One tensor. Numbers that are not finite are counted, and left out of all else."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    num_elements: int
    num_bytes: int
    num_not_finite: int
    mean: float | None
    """None of a tensor without finite numbers."""
    deviation: float | None
    """Of all its numbers, divided by their count."""
    largest: float | None
    """The largest magnitude."""
    zeros: float
    """The share of numbers that are zero."""
    half: Half | None
    """None of whole numbers."""


def tensor_facts(name: str, tensor: Tensor) -> TensorFacts:
    """Describe one tensor; the sums are in fp64."""
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    numbers = plain.detach().reshape(-1).double()
    finite = numbers[numbers.isfinite()]
    num = max(1, numbers.numel())
    return TensorFacts(
        name=name,
        shape=tuple(tensor.shape),
        dtype=short_type(tensor.dtype),
        num_elements=tensor.numel(),
        num_bytes=tensor.nbytes,
        num_not_finite=numbers.numel() - finite.numel(),
        mean=float(finite.mean()) if finite.numel() else None,
        deviation=float(finite.std(correction=0)) if finite.numel() else None,
        largest=float(finite.abs().max()) if finite.numel() else None,
        zeros=float((numbers == 0).sum()) / num,
        half=_half(finite, num) if plain.is_floating_point() else None,
    )


def _half(finite: Tensor, num: int) -> Half:
    """Round finite numbers in fp64, [numbers], to fp16; the shares are of `num`."""
    rounded = finite.to(torch.float16)
    small = (finite.abs() < torch.finfo(torch.float16).smallest_normal) & (rounded != 0)
    return Half(
        overflow=int(rounded.isinf().sum()) / num,
        underflow=int(((rounded == 0) & (finite != 0)).sum()) / num,
        subnormal=int(small.sum()) / num,
    )


def short_type(dtype: torch.dtype) -> str:
    """Return a type's name without `torch.`."""
    return str(dtype).removeprefix("torch.")


class Totals(Record):
    """A whole file."""

    num_tensors: int
    num_elements: int
    num_bytes: int
    num_not_finite: int


def all_facts(tensors: Mapping[str, Tensor]) -> tuple[tuple[TensorFacts, ...], Totals]:
    """Describe each tensor of a file, in its order, and all of them together."""
    facts = tuple(tensor_facts(name, tensor) for name, tensor in tensors.items())
    return facts, Totals(
        num_tensors=len(facts),
        num_elements=sum(fact.num_elements for fact in facts),
        num_bytes=sum(fact.num_bytes for fact in facts),
        num_not_finite=sum(fact.num_not_finite for fact in facts),
    )
