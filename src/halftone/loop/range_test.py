"""The range test: train for some steps while the rate grows by equal factors, and note the loss of each."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from statistics import median

from halftone.data.feed import Batch
from halftone.loop.session import Session
from halftone.loop.step import update

_EXPLODED = 4.0
"""A loss this many times its least has exploded."""
_SEEN = 3
"""Losses that are compared by their median, so that one bad batch does not end the test."""
_LOST = 10
"""Steps in a row without an update, because the gradients are not finite, that end the test; a loss scale that starts
too high needs some of them."""


@dataclass(frozen=True, slots=True)
class RangePoint:
    """One step of a range test."""

    share: float
    """The rate, as a share of the peak rates."""
    loss: float
    """Of the batch, before the update; infinite where it or the gradients are not finite."""


def range_test(session: Session, *, num_steps: int, lowest: float, highest: float) -> Iterator[RangePoint]:
    """Train with a growing rate until it is too high, and yield the loss at each rate (Smith 2017, section 3.3).

    The rates of all groups grow together, by equal factors, from `lowest` to `highest` times their peaks.

    Args:
        session: of a copy of the network, which is trained and of no use afterwards; its schedule must be flat.
        num_steps: from the lowest to the highest rate.
        lowest: the first rate, as a share of the peaks.
        highest: the last rate, as a share of the peaks.

    Yields:
        A point per step; the last one, where the loss exploded, may come early.
    """
    session.enter_training()
    peaks = [group["peak"] for group in session.optimizer.param_groups]
    losses: list[float] = []
    lost = 0
    for number, batch in zip(range(num_steps), endless_batches(session), strict=False):
        share = lowest * (highest / lowest) ** (number / max(num_steps - 1, 1))
        for group, peak in zip(session.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak * share
        result = update(session, batch, step=number, tried=number)
        loss = float(result.loss)
        lost = 0 if bool(result.applied) else lost + 1
        if not math.isfinite(loss) or lost >= _LOST:
            yield RangePoint(share, math.inf)
            return
        yield RangePoint(share, loss)
        losses.append(loss)
        if _exploded(losses):
            return


def _exploded(losses: list[float]) -> bool:
    recent = median(losses[-_SEEN:])
    return len(losses) > _SEEN and recent > max(_EXPLODED * median(sorted(losses)[:_SEEN]), losses[0])


def endless_batches(session: Session) -> Iterator[Batch]:
    """Yield the training batches, epoch after epoch, but for those of which less than two images can be read."""
    for epoch in count():
        seen = False
        for batch in session.feed.batches(session.order(epoch), session.batch_size, epoch=epoch):
            if len(batch.labels) >= min(2, session.batch_size):
                seen = True
                yield batch
        if not seen:
            return
