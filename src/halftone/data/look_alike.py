"""Pictures that look alike: the same scene after re-encoding, resizing, or a change of light.

Each picture is kept as a thumbnail, the mean of gray over a grid of 32 x 32. Two of them are compared by how their
*slopes* correlate, the differences between neighbouring cells: the slopes of natural pictures hold their detail, while
the values themselves mostly hold a horizon or a bright middle, which many pictures share. The rule:

1. Both thumbnails have some contrast, a deviation of at least `LEAST_CONTRAST` of 255. Of plain pictures nothing can be
   said.
2. Their values correlate by at least `LEAST_VALUES`. Frames and logos, which many pictures share, do not achieve that.
3. Their slopes correlate by at least `LEAST_SLOPES`.
4. They stand out from the crowd: in a set of digits or of clothes on white each picture has neighbours that look much
   like it and are others. Where the slopes of the `CROWD`th nearest neighbour of either correlate by `CROWDED` or more,
   what the pair lacks of full correlation is at most `STANDS_OUT` of what that neighbour lacks; or it correlates by
   `SURE`.

Of the thumbnails only the lowest frequencies are compared all with all, 24 numbers of a cosine transform of each, by
matrix products. Cutting off the others makes no distance longer, so every pair that fulfils 2 lies within a known
radius. Of each picture the `NEIGHBOURS` nearest there are looked at. The time grows with the square of the number of
pictures. (In a k-d tree 24 numbers are too many: nearly all of them are visited, and slowly.)

`python -m benchmarks.look_alikes` shows what the rule finds in photos, CIFAR-10, Fashion-MNIST and the digits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from halftone.data.labelled import Pixels

SIDE = 32
"""Of a thumbnail, in cells."""
LEAST_CONTRAST = 2.0
"""This and what follows are the numbers of the rule above."""
LEAST_VALUES = 0.88
LEAST_SLOPES = 0.6
SURE = 0.98
STANDS_OUT = 1 / 3
CROWD = 4
CROWDED = 0.4
NEIGHBOURS = 16
_FREQUENCIES = 5
"""Of each direction, of which the constant is left out."""
_BLOCK = 256
"""Pairs or pictures that are computed at once: few, so that they stay in the processor's cache."""
_DISTANCES = 2**23
"""Distances that are held at once."""

Thumbnails = npt.NDArray[np.uint8]
"""[images, SIDE, SIDE]."""
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Alike:
    """Pairs of pictures that look alike, each once, the likest first."""

    first: Numbers
    """Positions, [pairs]; smaller than those of `second`."""
    second: Numbers
    likeness: Floats
    """The correlation of the slopes, up to 1."""


def thumbnail(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return the mean of gray over a grid of cells, [SIDE, SIDE].

    Args:
        pixels: uint8 [height, width, 1 or 3], contiguous.
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def look_alikes(thumbnails: Thumbnails) -> Alike:
    """Return the pairs of pictures that look alike by the rule above."""
    contrast = thumbnails.std((1, 2), dtype=np.float32)
    members = np.flatnonzero(contrast >= LEAST_CONTRAST)
    if len(members) < 2:
        return Alike(members[:0], members[:0], np.empty(0, dtype=np.float32))
    first, second = _candidates(thumbnails[members])
    values, slopes = _compare(thumbnails, members[first], members[second])
    crowd = _crowd(first, second, slopes, len(members))
    crowded = np.maximum(crowd[first], crowd[second])
    stands_out = (crowded < CROWDED) | (1 - slopes <= STANDS_OUT * (1 - crowded)) | (slopes >= SURE)
    chosen = np.flatnonzero((values >= LEAST_VALUES) & (slopes >= LEAST_SLOPES) & stands_out)
    chosen = chosen[np.argsort(-slopes[chosen], kind="stable")]
    return Alike(members[first[chosen]], members[second[chosen]], slopes[chosen])


def _candidates(thumbnails: Thumbnails) -> tuple[Numbers, Numbers]:
    """Return pairs of positions that may look alike, each once; each picture with its nearest by low frequencies."""
    low = np.concatenate([_low_frequencies(part) for part in _blocks(thumbnails)])
    count, farthest = len(low), 2 * (1 - LEAST_VALUES)
    squares, ones = (low**2).sum(1, keepdims=True), np.ones((count, 1), dtype=np.float32)
    left, right = np.hstack([-2 * low, squares, ones]), np.hstack([low, ones, squares]).T
    pairs = [np.empty(0, dtype=np.int64)]
    num_rows = max(1, _DISTANCES // count)
    for start in range(0, count, num_rows):
        distances = left[start : start + num_rows] @ right  # squared, of all pictures from these
        near = distances <= farthest
        for row in np.flatnonzero(near.sum(1) > NEIGHBOURS + 1):
            near[row] = False
            near[row, np.argpartition(distances[row], NEIGHBOURS)[: NEIGHBOURS + 1]] = True
        rows, others = np.nonzero(near)
        rows += start
        pairs.append(np.unique(np.minimum(rows, others) * count + np.maximum(rows, others)))
    first, second = np.divmod(np.unique(np.concatenate(pairs)), count)
    return first[first != second], second[first != second]


def _blocks(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]


def _low_frequencies(thumbnails: Thumbnails) -> Floats:
    shape = thumbnails.shape
    unit = _unit(thumbnails.reshape(len(thumbnails), -1).astype(np.float32)).reshape(shape)
    low = dctn(unit, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    return np.ascontiguousarray(low.reshape(len(low), -1)[:, 1:])


def _compare(thumbnails: Thumbnails, first: Numbers, second: Numbers) -> tuple[Floats, Floats]:
    """Return the correlation of the values and of the slopes of pairs, each [pairs]."""
    found = [np.empty((2, 0), dtype=np.float32)]
    for one, other in zip(_blocks(first), _blocks(second), strict=True):
        left, right = (thumbnails[part].astype(np.float32) for part in (one, other))
        values = (_unit(left.reshape(len(left), -1)) * _unit(right.reshape(len(right), -1))).sum(1)
        found.append(np.stack([values, (_slopes(left) * _slopes(right)).sum(1)]))
    values, slopes = np.concatenate(found, axis=1)
    return values, slopes


def _unit(values: Floats) -> Floats:
    """Take away the mean of each row and bring it to length 1, so that products are correlations."""
    values = values - values.mean(1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def _slopes(values: Floats) -> Floats:
    """Return the differences between neighbouring cells as rows of length 1, [images, 2 SIDE (SIDE - 1)]."""
    across, down = np.diff(values, axis=2), np.diff(values, axis=1)
    rows = np.concatenate([across.reshape(len(values), -1), down.reshape(len(values), -1)], axis=1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _crowd(first: Numbers, second: Numbers, slopes: Floats, num_images: int) -> Floats:
    """Return how much each picture's `CROWD`th nearest neighbour looks like it, [images]; -1 if there are fewer."""
    rows, both = np.concatenate([first, second]), np.concatenate([slopes, slopes])
    order = np.lexsort((-both, rows))
    rows, both = rows[order], both[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    crowd = np.full(num_images, -1, dtype=np.float32)
    crowd[rows[rank == CROWD - 1]] = both[rank == CROWD - 1]
    return crowd
