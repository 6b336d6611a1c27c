"""A few training images, as the network takes them, for what is measured before training."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halftone.base.errors import RecipeError
from halftone.base.inputs import InputSpec
from halftone.base.records import decided
from halftone.data.augment.pipeline import Normalise
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled
from halftone.data.streaming import StreamingFeed


@dataclass(frozen=True, slots=True)
class Sample:
    """Images as the network takes them, and how long they took to come."""

    images: Tensor
    """[batch, channels, size, size] on the device."""
    targets: Tensor
    """[batch]."""
    seconds: float
    """Per image, to decode."""


def sample_images(train: Labelled, spec: InputSpec, device: torch.device, *, data: DataConfig, count: int) -> Sample:
    """Decode some training images, spread over the set and not changed at random, and normalise them.

    Raises:
        RecipeError: fewer than two of them can be read.
    """
    chosen = np.linspace(0, len(train.labels) - 1, count).astype(np.int64)
    feed = StreamingFeed(train, spec, device, workers=decided(data.workers), timeout=data.timeout)
    clock = time.perf_counter()
    batch = next(iter(feed.batches(chosen, count)))
    seconds = time.perf_counter() - clock
    if len(batch.labels) < 2:
        raise RecipeError("too few images can be read to measure on")
    return Sample(Normalise(spec, device)(batch.images), batch.labels, seconds / count)
