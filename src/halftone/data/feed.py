"""How images reach the model: batches of uint8 on the device, and the two feeds that make them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from halftone.data.order import Order
from halftone.data.survey import Fault


@dataclass(slots=True)
class Batch:
    """Some images and their labels, on the device."""

    images: Tensor
    """uint8 [batch, channels, height, width], channels last in memory."""
    labels: Tensor
    """int64 [batch]."""
    indices: Order
    """Which images these are, [batch]."""
    faults: tuple[Fault, ...] = ()
    """Images that should have been here but cannot be read."""


class Feed(Protocol):
    """Gives images in any order asked for."""

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        """Yield the images in the order given; the last batch may be smaller.

        Args:
            order: positions of images.
            batch_size: images per batch.
            epoch: the epoch whose random crops to use; None for the crop that evaluation sees.
            first: how many images of the epoch came before this order.
        """


class ResidentFeed:
    """The whole set decoded on the device; a batch is one gather."""

    def __init__(self, images: Tensor, labels: Tensor, faults: tuple[Fault, ...] = ()) -> None:
        """Take uint8 [images, height, width, channels] and int64 [images] on one device.

        Images with a fault stay in their places, so that positions mean the same everywhere, and are left out of
        every batch and named there.
        """
        self._images = images
        self._labels = labels
        self._faults = {fault.index: fault for fault in faults}
        self._bad = np.array(list(self._faults), dtype=np.int64)

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        """Yield the images in the order given; see `Feed`."""
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            faults: tuple[Fault, ...] = ()
            if len(self._bad):
                bad = np.isin(indices, self._bad)
                faults = tuple(self._faults[int(index)] for index in indices[bad])
                indices = indices[~bad]
            chosen = torch.from_numpy(indices).to(self._images.device, non_blocking=True)
            images = self._images.index_select(0, chosen).permute(0, 3, 1, 2)
            yield Batch(images, self._labels.index_select(0, chosen), indices, faults)
