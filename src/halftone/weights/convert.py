"""Changing what a weight file holds: its names and its number format, with the loss stated."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from halftone.base.records import Record
from halftone.weights.facts import short_type

_WRAPPER = re.compile(r"(module|_orig_mod|model)\.")


class Rounding(Record):
    """What a change of the number format cost."""

    dtype: str
    num_converted: int
    """Tensors whose type changed; whole numbers keep theirs."""
    largest_error: float
    largest_error_in: str
    """The tensor with the largest absolute error; empty if there is none."""
    largest_relative: float
    """Over numbers that stay finite and in the format's normal range."""
    num_overflow: int
    """Finite numbers that become infinite."""
    num_underflow: int
    """Numbers that become zero."""


def without_wrappers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Remove what DataParallel (`module.`), torch.compile (`_orig_mod.`) and others (`model.`) put before all names.

    Returns:
        The tensors, and what was removed, such as `module.model.`; empty if nothing was.
    """
    names, removed = dict(tensors), ""
    while names:
        found = _WRAPPER.match(next(iter(names)))
        if found is None or not all(name.startswith(found[0]) and name != found[0] for name in names):
            break
        removed += found[0]
        names = {name.removeprefix(found[0]): tensor for name, tensor in names.items()}
    return names, removed


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[dict[str, Tensor], Rounding]:
    """Convert floating-point tensors to another format, to the nearest number, and say what that costs."""
    converted = dict(tensors)
    num, error, relative, where, over, under = 0, 0.0, 0.0, "", 0, 0
    normal = torch.finfo(dtype).smallest_normal
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.dtype == dtype:
            continue
        converted[name] = tensor.detach().to(dtype)
        num += 1
        before, after = tensor.detach().double(), converted[name].double()
        whole = before.isfinite() & after.isfinite()
        over += int((before.isfinite() & after.isinf()).sum())
        under += int(((before != 0) & (after == 0)).sum())
        away = (after - before).abs()[whole]
        if away.numel() and float(away.max()) > error:
            error, where = float(away.max()), name
        ranged = whole & (before.abs() >= normal)
        if ranged.any():
            relative = max(relative, float(((after - before).abs()[ranged] / before.abs()[ranged]).max()))
    return converted, Rounding(
        dtype=short_type(dtype),
        num_converted=num,
        largest_error=error,
        largest_error_in=where,
        largest_relative=relative,
        num_overflow=over,
        num_underflow=under,
    )
