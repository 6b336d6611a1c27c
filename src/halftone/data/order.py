"""In which order the images come: a pure function of the seed and the epoch, so any point of it can be found again."""

import numpy as np
import numpy.typing as npt

from halftone.base.seeds import stream
from halftone.data.labelled import Labels

Order = npt.NDArray[np.int64]
"""Positions of images, in the order of use."""


def epoch_order(num_images: int, *, seed: int, epoch: int) -> Order:
    """Return a permutation of all images for one epoch."""
    return stream(seed, "order", epoch).permutation(num_images)


def balanced_order(labels: Labels, *, seed: int, epoch: int) -> Order:
    """Return as many draws as there are images, with repetition, each class equally likely."""
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    chances = 1.0 / (len(classes) * counts[inverse])
    return stream(seed, "order", epoch).choice(len(labels), size=len(labels), p=chances / chances.sum())
