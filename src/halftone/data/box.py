"""A part of a picture."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a picture in pixels, its edges possibly between pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def around(self, step: int, height: int, width: int) -> "Box":
        """Move each edge outwards to a multiple of `step` pixels or the edge of the picture."""
        left, top = math.floor(self.left / step) * step, math.floor(self.top / step) * step
        right, bottom = math.ceil(self.right / step) * step, math.ceil(self.bottom / step) * step
        return Box(left, top, min(width, right), min(height, bottom))

    def on_grid(self, step: int, height: int, width: int) -> "Box":
        """Move each edge to the nearest multiple of `step` pixels or edge of the picture; never to an empty box."""
        left, right = _snap(self.left, self.right, step, width)
        top, bottom = _snap(self.top, self.bottom, step, height)
        return Box(left, top, right, bottom)


def _snap(low: float, high: float, step: int, end: int) -> tuple[int, int]:
    first = min(round(low / step) * step, (end - 1) // step * step)
    last = end if high >= end else round(high / step) * step
    return first, min(end, max(last, first + step))
