"""Looking at an image more than once in evaluation: mirrored, and shifted by a pixel."""

from collections.abc import Iterator

import torch
from torch import Tensor

from halftone.data.augment.geometry import flip_and_shift
from halftone.data.config import Views

_SHIFTS = {1: ((0, 1.0),), 2: ((0, 1.0),), 6: ((0, 0.5), (1, 0.25), (-1, 0.25))}
"""Pixels down and right, and the weight, by the number of views."""


def views_of(images: Tensor, count: Views) -> Iterator[tuple[Tensor, float]]:
    """Yield the views of some images, each with the weight of its logits; the weights add up to one.

    One view is the images as they are. Two add their mirror images. Six add the images shifted by a pixel, down and
    right, and up and left, and the mirror images of these; they weigh half as much. What enters is the mirror image of
    the border (Jordan 2024, section 3.5).

    Args:
        images: [batch, channels, height, width], any type.
        count: of the views.
    """
    for shift, weight in _SHIFTS[count]:
        for side in (False, True)[: min(count, 2)]:
            share = weight / min(count, 2)
            if not shift and not side:
                yield images, share
                continue
            down = torch.full((len(images),), shift, device=images.device)
            sides = torch.full_like(down, side, dtype=torch.bool)
            yield flip_and_shift(images, sides, down, -down if side else down), share
