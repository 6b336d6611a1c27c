"""The paces: images per second of the real path, of the network alone, and of each part of the path alone."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from statistics import median

import numpy as np
import torch
from torch import Tensor

from halftone.data.feed import Batch
from halftone.data.order import Order
from halftone.data.streaming import AHEAD
from halftone.diagnose.speed_record import Pace
from halftone.loop.clocked import Part, Stopwatch, clocked
from halftone.loop.events import StepTaken
from halftone.loop.session import Session
from halftone.loop.state import Progress
from halftone.loop.train import train
from halftone.system.device import wait_for

ROUNDS = 3
"""Turns of the real path, of the network alone, and of the same with half of the batch."""
WARM = AHEAD + 2
"""Steps that are not timed: until the feed works as far ahead as it may, and the device knows its work."""
MOST_STEPS = 50
"""Timed in a row."""
_FEWEST_STEPS = 2
_TURNS = 2.5
"""Steps of a round, in those of the network alone: the real path at its best, the network, and half of it."""
_SMALLEST_HALF = 2
_MOST_BATCHES = 4096
"""Read alone, whatever the time."""


@dataclass(frozen=True, slots=True)
class Paces:
    """The real path beside the network alone."""

    real: Pace
    model: Pace
    share: float
    """Of the model's pace that the real path reaches, the median of the rounds."""
    half_batch: float | None
    step: dict[Part, float]
    """Seconds of a mean step on the real path, by part."""
    num_steps: int
    first_step: float
    """Seconds that the first step took beyond a usual one."""


def random_batch(session: Session, num_images: int, *, size: int, channels: int, num_classes: int) -> Batch:
    """Return images and labels of random numbers, where the feed would bring them."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num_images, size, size, channels), dtype=torch.uint8, generator=random)
    labels = torch.randint(num_classes, (num_images,), generator=random).to(session.device)
    return Batch(pixels.to(session.device).permute(0, 3, 1, 2), labels, np.arange(num_images))


def measure_paces(session: Session, batch: Batch, *, seconds: float, max_skipped: int) -> Paces:
    """Take the time of steps, in turns with and without the data path.

    Args:
        session: of a copy of the network.
        batch: of random images, as large as those of training.
        seconds: to take it for, about.
        max_skipped: as in training.
    """
    alone, half = on_one_batch(session, batch), _on_half(session, batch)
    first, usual = (take_steps(alone, 1, warm=0, max_skipped=max_skipped).seconds for _ in range(2))
    steps = max(_FEWEST_STEPS, min(MOST_STEPS, int((seconds / usual / ROUNDS - WARM) / _TURNS)))
    stopwatch, parts = Stopwatch(session.device), dict[Part, float]()
    found: dict[str, list[float]] = {"real": [], "model": [], "half": []}
    num_steps = 0
    with clocked(session, stopwatch) as watched:
        for turn in range(ROUNDS):
            found["model"].append(take_steps(alone, steps, warm=1, max_skipped=max_skipped).pace)
            taken = take_steps(
                watched,
                steps,
                warm=WARM,
                max_skipped=max_skipped,
                epoch=turn,
                stopwatch=stopwatch,
                limit=seconds / ROUNDS,
            )
            found["real"].append(taken.pace)
            num_steps += taken.num_steps
            for part, spent in taken.parts.items():
                parts[part] = parts.get(part, 0.0) + spent
            if half is not None:
                found["half"].append(take_steps(half, steps, warm=1, max_skipped=max_skipped).pace)
    return Paces(
        real=_pace(found["real"]),
        model=_pace(found["model"]),
        share=median(own / other for own, other in zip(found["real"], found["model"], strict=True)),
        half_batch=median(found["half"]) if found["half"] else None,
        step={part: spent / num_steps for part, spent in parts.items()},
        num_steps=num_steps,
        first_step=max(0.0, first - usual),
    )


def reading_pace(session: Session, *, seconds: float) -> float:
    """Return the images per second of the feed alone: nobody works on what it brings."""
    order = _tiled(session, 0, _MOST_BATCHES)
    batches = iter(session.feed.batches(order, session.batch_size, epoch=0))
    next(batches)  # what starts the threads
    images, clock, spent = 0, time.perf_counter(), 0.0
    for batch in batches:
        images += len(batch.labels)
        wait_for(session.device)
        spent = time.perf_counter() - clock
        if spent > seconds:
            break
    return images / spent if spent else 0.0


def changing_pace(session: Session, batch: Batch, *, seconds: float) -> float:
    """Return the images per second of the random changes and the normalisation alone."""

    def change(step: int) -> None:
        session.prepare(session.augment(batch, step)[0])

    change(0)
    wait_for(session.device)
    clock, spent = time.perf_counter(), 0.0
    for number in count(1):
        change(number)
        if number >= _FEWEST_STEPS and (spent := time.perf_counter() - clock) > seconds:
            break
    wait_for(session.device)
    spent = time.perf_counter() - clock
    return number * len(batch.labels) / spent


def copying_pace(session: Session, batch: Batch) -> float | None:
    """Return the images per second from pinned memory of the host to the device; None where the device is the CPU."""
    if session.device.type == "cpu":
        return None
    images = batch.images.permute(0, 2, 3, 1).cpu()
    images = images.pin_memory() if session.device.type == "cuda" else images
    images.to(session.device, non_blocking=True)
    wait_for(session.device)
    clock = time.perf_counter()
    for _ in range(10):
        images.to(session.device, non_blocking=True)
    wait_for(session.device)
    return 10 * len(images) / (time.perf_counter() - clock)


def _pace(found: list[float]) -> Pace:
    return Pace(median=median(found), least=min(found), most=max(found))


@dataclass(frozen=True, slots=True)
class Taken:
    """Some steps in a row."""

    parts: dict[Part, float]
    num_steps: int
    num_images: int

    @property
    def seconds(self) -> float:
        """Of all parts together."""
        return sum(self.parts.values())

    @property
    def pace(self) -> float:
        """Images per second."""
        return self.num_images / self.seconds


def take_steps(
    session: Session,
    steps: int,
    *,
    warm: int,
    max_skipped: int,
    epoch: int = 0,
    stopwatch: Stopwatch | None = None,
    limit: float = math.inf,
) -> Taken:
    """Take some steps of an endless epoch, after some that are not timed; no evaluation follows.

    After `limit` seconds there are no more of them, but the fewest that say something.
    """
    stopwatch = stopwatch or Stopwatch(session.device)
    batches = warm + steps + 1  # one more, so that the epoch does not end
    endless = replace(
        session,
        order=lambda number: _tiled(session, number, batches),
        batches_per_epoch=batches,
        max_batches=batches,
        epochs=epoch + 1,
    )
    progress = Progress.start(session.device)
    progress.epoch = epoch
    events = train(endless, progress, max_skipped=max_skipped)
    images = taken = 0
    clock = time.perf_counter()
    if not warm:
        stopwatch.start()
    for event in events:
        if not isinstance(event, StepTaken):
            continue
        taken += 1
        images += event.num_images if taken > warm else 0
        if taken == warm:
            stopwatch.start()
        over = taken - warm >= _FEWEST_STEPS and time.perf_counter() - clock > limit
        if over or taken == warm + steps:
            break
    parts = stopwatch.stop()
    events.close()
    return Taken(parts, taken - warm, images)


def _tiled(session: Session, epoch: int, num_batches: int) -> Order:
    """Return an order long enough for some batches: that of an epoch and, if it is too short, of those that follow."""
    wanted = num_batches * session.batch_size
    found = [session.order(epoch)]
    while sum(map(len, found)) < wanted:
        found.append(session.order(epoch + len(found)))
    return np.concatenate(found)[:wanted]


@dataclass(frozen=True, slots=True)
class _OneBatch:
    """A feed that brings the same batch over and over."""

    batch: Batch

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        for _ in range(0, len(order), batch_size):
            yield self.batch


def on_one_batch(session: Session, batch: Batch) -> Session:
    """Return a session without a data path: what the network takes is there already, changed and normalised."""
    images, targets = session.augment(batch, 0)
    inputs = session.prepare(images)

    def ready(_: Batch, step: int) -> tuple[Tensor, Tensor]:
        return inputs, targets

    return replace(
        session,
        feed=_OneBatch(batch),
        augment=ready,  # type: ignore[arg-type]
        prepare=lambda ready: ready,
        batch_size=len(batch.labels),
    )


def _on_half(session: Session, batch: Batch) -> Session | None:
    """Return the same with half of the batch, if that is enough for a network with batch normalisation."""
    half = len(batch.labels) // 2
    if half < max(_SMALLEST_HALF, 2 * session.parts):
        return None
    return on_one_batch(session, Batch(batch.images[:half], batch.labels[:half], batch.indices[:half]))
