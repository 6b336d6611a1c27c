"""The streaming feed: threads decode a few batches ahead, each image straight into its place in the batch.

Threads, not processes: decoding and resizing run outside of Python's lock, nothing is copied between
processes, no shared memory can run out, and there are no workers to be left behind when a run is killed. A read that
takes longer than a limit ends the run and names the image.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from halftone.base.errors import UnreadableImage
from halftone.base.inputs import InputSpec
from halftone.base.seeds import fractions
from halftone.data.box import Box
from halftone.data.cache.kept import KeptPictures
from halftone.data.cut import cut
from halftone.data.delivery import Delivery
from halftone.data.feed import Batch, ResidentFeed
from halftone.data.labelled import Labelled, Pixels
from halftone.data.order import Order
from halftone.data.reading import TIMEOUT, Readers
from halftone.data.survey import Fault

AHEAD = 3
"""Batches that are being decoded while one is in use."""
_AT_ONCE = 8
"""Images that a thread takes at once, at most: to hand them out one by one takes as long as reading the cache."""
_LOG_ASPECT = math.log(4 / 3)
"""Boxes are from 3/4 to 4/3 times as wide as high."""
SizeOf = Callable[[int, int], int]
"""From an epoch and the number of a batch in it, both from 0, to the size of the batch's pictures, in pixels."""


@dataclass(frozen=True, slots=True)
class RandomBox:
    """A random rectangle of the picture (Szegedy et al. 2015, section 6): its share of the area from a range."""

    area: tuple[float, float]
    seed: int

    def draw(self, height: int, width: int, *, epoch: int, position: int) -> Box:
        """Draw the rectangle, in whole pixels, for one image of one epoch; the same arguments give the same one."""
        low, high = self.area
        for turn in range(5):
            drawn = fractions(self.seed, "crop", epoch, position, turn)
            for share, shape, right, down in (drawn[:4], drawn[4:]):
                area = height * width * (low + (high - low) * share)
                ratio = math.exp(_LOG_ASPECT * (2 * shape - 1))
                box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
                if box_width <= width and box_height <= height:
                    left, top = right * (width - box_width), down * (height - box_height)
                    return Box(left, top, left + box_width, top + box_height).on_grid(1, height, width)
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        return Box(left, top, left + side, top + side)


class StreamingFeed:
    """Decodes while the model computes."""

    def __init__(
        self,
        source: Labelled,
        spec: InputSpec,
        device: torch.device,
        *,
        workers: int,
        box: RandomBox | None = None,
        kept: KeptPictures | None = None,
        size: SizeOf | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Take the images and what the network expects of them.

        Args:
            source: the images.
            spec: what the network expects.
            device: where the batches go.
            workers: threads that decode; with 0 each batch is decoded when it is asked for, by one.
            box: the random crop of training, if any.
            kept: its cache, if any.
            size: of the random crops, where it is not always that of the spec.
            timeout: seconds that one image may take to be read and decoded; 0 is no limit.
        """
        self._source = source
        self._spec = spec
        self._delivery = Delivery(device)
        self._workers = workers
        self._box = box
        self._kept = kept
        self._size = size
        self._timeout = timeout
        self._labels = torch.from_numpy(source.labels)

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        """Yield the images in the order given; see `Feed`.

        Raises:
            ResourceError: an image takes longer than the limit; it is named.
        """
        ahead = AHEAD if self._workers else 0
        queue: deque[_Pending] = deque()
        with Readers(self._workers, timeout=self._timeout, name=self._source.name) as readers:
            for start in range(0, len(order), batch_size):
                spec = self._seen(epoch, (first + start) // batch_size)
                queue.append(self._submit(readers, order[start : start + batch_size], spec, epoch, first + start))
                if len(queue) > ahead:
                    yield self._finish(queue.popleft(), readers)
            while queue:
                yield self._finish(queue.popleft(), readers)

    def remarks(self) -> list[str]:
        """Return what went wrong with the cache since the last call, for people."""
        return [] if self._kept is None else self._kept.remarks()

    def _seen(self, epoch: int | None, batch: int) -> InputSpec:
        """Return what the network sees in a batch of an epoch, which may be smaller in training."""
        if self._size is None or self._box is None or epoch is None:
            return self._spec
        size = self._size(epoch, batch)
        return self._spec if size == self._spec.size else self._spec.replaced(size=size)

    def _submit(self, readers: Readers, indices: Order, spec: InputSpec, epoch: int | None, first: int) -> "_Pending":
        pending = _Pending(indices, spec)

        def place_some(rows: range) -> list[Fault | None]:
            faults = []
            for row in rows:
                readers.begin(int(indices[row]))
                faults.append(self._place(pending, row, epoch, first + row))
            return faults

        rows, portion = range(len(indices)), self._portion(len(indices))
        pending.futures = [readers.submit(place_some, rows[row : row + portion]) for row in rows[::portion]]
        return pending

    def _portion(self, batch_size: int) -> int:
        """Return how many images a thread takes at once, so that the batches ahead are enough for all threads twice."""
        return max(1, min(_AT_ONCE, batch_size * (AHEAD + 1) // (2 * max(1, self._workers))))

    def _place(self, batch: "_Pending", row: int, epoch: int | None, position: int) -> Fault | None:
        """Decode one image into its row of the batch; return what went wrong, if anything."""
        index, choose = int(batch.indices[row]), None
        if self._box is not None and epoch is not None:
            choose = partial(self._box.draw, epoch=epoch, position=position)
        try:
            if self._kept is not None and epoch is not None:
                batch.pixels[row] = self._kept.cut(index, choose, batch.spec)
            else:
                batch.pixels[row] = cut(self._source, index, batch.spec, choose)
        except UnreadableImage as error:
            return Fault(index, self._source.name(index), str(error))
        except Exception as error:  # a fault of the program, or of the user's own data set: it ends the run
            error.add_note(f"while reading {self._source.name(index)}")
            raise
        return None

    def _finish(self, pending: "_Pending", readers: Readers) -> Batch:
        """Wait for a batch and move it to the device, without the images that could not be read."""
        results = readers.wait(pending.futures)
        faults = tuple(result for result in results if result is not None)
        pixels, indices = pending.pixels, pending.indices
        if faults:
            good = np.array([result is None for result in results])
            pixels, indices = pixels[good], indices[good]
        images, labels = self._delivery.bring(torch.from_numpy(pixels), self._labels[torch.from_numpy(indices)])
        return Batch(images.permute(0, 3, 1, 2), labels, indices, faults)


class _Pending:
    """A batch that is being decoded."""

    def __init__(self, indices: Order, spec: InputSpec) -> None:
        self.indices = indices
        self.spec = spec
        self.pixels: Pixels = np.empty((len(indices), spec.size, spec.size, spec.channels), dtype=np.uint8)
        self.futures: list[Future[list[Fault | None]]] = []


def decode_all(
    source: Labelled, spec: InputSpec, device: torch.device, *, workers: int, timeout: float = TIMEOUT
) -> ResidentFeed:
    """Decode a whole set, as evaluation sees it, and keep it on the device."""
    images = source.array
    faults: tuple[Fault, ...] = ()
    if images is None or not _fits(images, spec):
        streaming = StreamingFeed(source, spec, torch.device("cpu"), workers=workers, timeout=timeout)
        images = np.zeros((len(source.labels), spec.size, spec.size, spec.channels), dtype=np.uint8)
        found: list[Fault] = []
        for batch in streaming.batches(np.arange(len(source.labels)), 256):
            images[batch.indices] = batch.images.permute(0, 2, 3, 1).numpy()
            found += batch.faults
        faults = tuple(found)
    return ResidentFeed(torch.from_numpy(images).to(device), torch.from_numpy(source.labels).to(device), faults)


def _fits(images: Pixels, spec: InputSpec) -> bool:
    """Tell whether images in memory already are what `fit` would make of them."""
    return images.shape[1:] == (spec.size, spec.size, spec.channels) and (spec.fit == "squash" or spec.crop == 1)
