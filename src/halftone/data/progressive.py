"""Smaller pictures early in training, and full ones at its end: progressive resizing (Howard 2018, for DAWNBench).

A step costs about as much as its pictures have pixels, and the first steps learn what small pictures show, too. Shifts,
mirroring and random crops come before, colours and all else after a picture is made smaller.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from halftone.base.errors import RecipeError
from halftone.base.lengths import Span
from halftone.base.records import Record
from halftone.data.config import Smaller


class EarlySize(Record):
    """A size of the training pictures for a part of the run."""

    size: int
    """Height and width in pixels."""
    until: int
    """The optimizer step, counted in tried ones, from which on pictures are larger."""


def plan_sizes(wish: Mapping[int, Span], *, full: int, steps: Callable[[Span], int]) -> tuple[EarlySize, ...]:
    """Say how large the training pictures are until when.

    Args:
        wish: until when, by size in pixels.
        full: the size of the network's input, in pixels.
        steps: from a length to optimizer steps.

    Raises:
        RecipeError: a size is not below the full one, or pictures would become smaller again.
    """
    planned = [EarlySize(size=size, until=steps(span)) for size, span in sorted(wish.items()) if span]
    for early in planned:
        if early.size >= full:
            raise RecipeError(
                f"data.progressive = {early.size}: pictures have {full} pixels a side, and early ones have fewer",
                hint=f"a size below {full}, or a larger --size",
            )
    for smaller, larger in pairwise(planned):
        if smaller.until >= larger.until:
            raise RecipeError(
                f"data.progressive: {larger.size} pixels until step {larger.until} have no step of their own, because "
                f"{smaller.size} pixels last until step {smaller.until}",
                hint="pictures only grow: the larger the size, the later its end",
            )
    return tuple(planned)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the training pictures are in which step."""

    full: int
    """The size of the network's input, in pixels."""
    early: tuple[EarlySize, ...] = ()
    """By their ends."""
    by: Smaller = "resize"

    def at(self, step: int) -> int:
        """Return the size in a step, counted in tried ones from 0."""
        return next((one.size for one in self.early if step < one.until), self.full)

    def grows_at(self, step: int) -> bool:
        """Tell whether pictures are larger from a step on."""
        return any(step == one.until for one in self.early)


def make_smaller(images: Tensor, size: int, by: Smaller) -> Tensor:
    """Return square images of another size, resized with antialiasing, or their middles; as they are if they have it.

    Args:
        images: uint8 or floating point [batch, channels, height, width].
        size: in pixels, no more than they have.
        by: how.

    Returns:
        [batch, channels, size, size] of the same type.
    """
    if images.shape[3] <= size:
        return images
    if by == "crop":
        first = (images.shape[3] - size) // 2
        return images[:, :, first : first + size, first : first + size]
    if images.dtype != torch.uint8 or images.device.type == "cpu":
        return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)  # on GPUs, torch resizes floating point only
