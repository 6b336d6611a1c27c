"""Which side of an image comes in which epoch, where it alternates: a pure function of the seed, image and epoch."""

import numpy as np
import numpy.typing as npt

from halftone.base.seeds import stream_seed
from halftone.data.order import Order

_STEP, _FIRST, _SECOND = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Of the generator SplitMix64 (Steele et al. 2014)."""


def is_mirrored(indices: Order, *, epoch: int, seed: int) -> npt.NDArray[np.bool_]:
    """Tell which images are mirrored in an epoch: a random half in the first, and the others in the next, in turn.

    So two epochs in a row show both sides of every image, where random mirroring shows half of the images the same
    side twice (Jordan 2024, section 3.6).

    Args:
        indices: positions of the images in the set, [batch].
        epoch: from 0.
        seed: of the run.

    Returns:
        bool [batch].
    """
    mixed = np.array([stream_seed(seed, "flip")], dtype=np.uint64) + (indices.astype(np.uint64) + np.uint64(1)) * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    first = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(63)).astype(bool)
    return first ^ bool(epoch % 2)
