"""What is kept of a picture, and the crops taken from it.

With the cache on, each crop is taken from the picture as it is kept, also in the epoch that fills the cache and where
nothing could be kept. So what the cache holds, and when, changes no pixel of a run.
"""

import math
from typing import Protocol

from halftone.base.inputs import InputSpec
from halftone.data.cut import Choose, bounded, shrink
from halftone.data.fit import fit, fit_whole
from halftone.data.labelled import Labelled, Pixels, rooted

_LEAST_AREA = 0.33
"""The share of the area down to which crops lose nothing: a tenth of it would take three times the bytes."""


def kept_side(size: int, area: tuple[float, float] | None) -> int | None:
    """Return what the shorter side of a kept picture is reduced to, in pixels.

    The least random crop then still has the network's resolution, so no crop loses any sharpness, up to a bound: where
    crops may be very small, those below a third of the area do.

    Args:
        size: of the network's input, in pixels.
        area: the range of the random crops' share of the area; None if there are none, and then the finished input is
            kept.
    """
    return None if area is None else math.ceil(size / math.sqrt(max(area[0], _LEAST_AREA)))


def kept_bytes(num_images: int, height: int, width: int, *, spec: InputSpec, side: int | None) -> int:
    """Return how much pictures of this height and width take when they are kept."""
    if side is None:
        return num_images * spec.size**2 * spec.channels
    height, width = bounded(height, width, side)
    return num_images * height * width * spec.channels


class Store(Protocol):
    """Keeps pictures by the number of their image. Used from several threads; raises nothing."""

    def shape(self, number: int) -> tuple[int, int, int] | None:
        """Return [height, width, channels] of a picture, or None if it is not there."""

    def rows(self, number: int, top: int, bottom: int) -> Pixels | None:
        """Return some rows of a picture that is there, or None if they cannot be read."""

    def put(self, number: int, pixels: Pixels) -> None:
        """Keep a picture if there is room."""

    def remarks(self) -> list[str]:
        """Return what went wrong since the last call, for people."""


class KeptPictures:
    """The images of a source, decoded once."""

    def __init__(self, source: Labelled, spec: InputSpec, store: Store, side: int | None) -> None:
        """Take the images, what the network expects, where to keep them, and the bound of `kept_side`."""
        self._source, self._spec, self._store, self._side = source, spec, store, side
        _, self._numbers = rooted(source)

    def cut(self, index: int, choose: Choose | None, seen: InputSpec | None = None) -> Pixels:
        """Return what the network sees of one image; see `halftone.data.cut.cut`.

        Args:
            index: of the image.
            choose: the box; without it, the part that evaluation sees.
            seen: what the network expects now, of a box; it may be smaller than what pictures are kept for.

        Raises:
            UnreadableImage: it cannot be decoded.
        """
        number, seen = int(self._numbers[index]), seen or self._spec
        shape = self._store.shape(number)
        if shape is not None:
            found = self._from_store(number, shape, choose, seen)
            if found is not None:
                return found
        pixels = shrink(self._source, index, self._spec, self._side)
        self._store.put(number, pixels)
        if choose is None:
            return pixels
        return fit(pixels, seen, choose(*pixels.shape[:2]))

    def remarks(self) -> list[str]:
        """Return what went wrong since the last call, for people."""
        return self._store.remarks()

    def _from_store(
        self, number: int, shape: tuple[int, int, int], choose: Choose | None, seen: InputSpec
    ) -> Pixels | None:
        height, width, _ = shape
        if choose is None:
            return self._store.rows(number, 0, height)
        box = choose(height, width).on_grid(1, height, width)
        rows = self._store.rows(number, int(box.top), int(box.bottom))
        return None if rows is None else fit_whole(rows[:, int(box.left) : int(box.right)], seen)
