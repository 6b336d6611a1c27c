"""A session whose parts are on the clock, for the real loop to run over: where the time of a step goes."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from halftone.data.feed import Batch, Feed
from halftone.data.order import Order
from halftone.loop.session import Session
from halftone.precision.verbs import Precision
from halftone.system.device import wait_for

Part = Literal["data", "augmentation", "forward", "backward", "optimizer", "halftone"]
"""Waiting for a batch; changing and normalising it; the network and the loss; their gradients; the update of the
weights; and all that is neither, which is what halftone adds: the norm of the gradients, the guard over buffers, rates,
counts."""


class Stopwatch:
    """Splits time into parts: what passes belongs to the part that was begun last.

    On a GPU it marks the device's own time by events and waits for nothing before `stop`.
    """

    def __init__(self, device: torch.device) -> None:
        """Be ready for a device."""
        self._device = device
        self._runs_ahead = device.type in ("cuda", "xpu")
        self._marks: list[tuple[Part, Any]] = []

    def start(self) -> None:
        """Forget what was, wait for the device, and begin."""
        wait_for(self._device)
        self._marks = []
        self.begin("halftone")

    def begin(self, part: Part) -> None:
        """Let a part begin; the one before it ends."""
        if self._runs_ahead:
            mark = torch.Event(self._device, enable_timing=True)
            mark.record()
        self._marks.append((part, mark if self._runs_ahead else time.perf_counter()))

    def stop(self) -> dict[Part, float]:
        """End, wait for the device, and return the seconds of each part."""
        self.begin("halftone")
        wait_for(self._device)
        seconds: dict[Part, float] = {}
        for (part, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            spent = start.elapsed_time(end) / 1000 if self._runs_ahead else end - start
            seconds[part] = seconds.get(part, 0.0) + spent
        return seconds


@contextmanager
def clocked(session: Session, stopwatch: Stopwatch) -> Iterator[Session]:
    """Return the session with its parts on the clock; it computes the same, and the given one stays as it is."""
    optimizer = session.optimizer
    handles = [
        optimizer.register_step_pre_hook(lambda *_: stopwatch.begin("optimizer")),
        optimizer.register_step_post_hook(lambda *_: stopwatch.begin("halftone")),
    ]

    def augment(batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        stopwatch.begin("augmentation")
        images, targets = session.augment(batch, step)
        images = session.prepare(images)
        stopwatch.begin("halftone")
        return images, targets

    try:
        yield replace(
            session,
            feed=_ClockedFeed(session.feed, stopwatch),
            augment=augment,  # type: ignore[arg-type]
            precision=_ClockedPrecision(session.precision, stopwatch),
        )
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class _ClockedFeed:
    feed: Feed
    stopwatch: Stopwatch

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        batches = self.feed.batches(order, batch_size, epoch=epoch, first=first)
        while True:
            self.stopwatch.begin("data")
            batch = next(batches, None)
            self.stopwatch.begin("halftone")
            if batch is None:
                return
            yield batch


class _ClockedPrecision(Precision):
    def __init__(self, precision: Precision, stopwatch: Stopwatch) -> None:
        self.__dict__.update(precision.__dict__)
        self._stopwatch = stopwatch

    def forward(self) -> AbstractContextManager[Any]:
        return self._on_the_clock(super().forward())

    @contextmanager
    def _on_the_clock(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        self._stopwatch.begin("forward")
        with context:
            yield
        self._stopwatch.begin("halftone")

    def backward(self, loss: Tensor) -> None:
        self._stopwatch.begin("backward")
        super().backward(loss)
        self._stopwatch.begin("halftone")
