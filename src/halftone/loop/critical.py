"""The critical rate: the largest first step that does not raise the loss on its own batch.

Kalra and Barkeshli 2024, "Why Warmup the Learning Rate? Underlying Mechanisms and Improvements", choose the first
rate of a warmup by it: find by exponential search, then bisection, with a few forward passes, the rate above which
the first update raises the loss, and begin there. What is different here:

- The step is the first one of the run's own optimizer, not that of plain gradient descent: one update is taken, and
  its direction scaled. From a fresh state the update of every optimizer here is proportional to the rate, weight decay
  included.
- It is measured on several batches, of which the median counts, in the precision of the run and with its changes of
  the images.
- Rates of all groups move together, so the result is a share of their peaks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from statistics import median

import torch
from torch import Tensor

from halftone.data.feed import Batch
from halftone.loop.passes import even_parts
from halftone.loop.range_test import endless_batches
from halftone.loop.session import Session
from halftone.loop.state import unchanged_random
from halftone.loop.step import update

_FACTOR = 4.0
"""Of the exponential search."""
_HALVINGS = 3
"""Of the bisection: the result is exact to a factor of 4 ** (1 / 8), 1.19."""
_LEAST, _MOST = 4.0**-8, 4.0**4
"""Shares of the peak between which the search stays."""
_TRIES = 10
"""At an update whose gradients are finite."""


def critical_share(session: Session, *, num_batches: int = 3) -> float | None:
    """Measure the critical rate: the median over some batches.

    Args:
        session: of a copy of the network, in whatever state it is at; its schedule must be flat. Weights and buffers
            are as before afterwards, the optimizer has no state.
        num_batches: on each, one backward pass and about eight forward passes.

    Returns:
        The rate as a share of the peaks; None if no step was finite, or none was found that does not raise the loss.
    """
    session.enter_training()
    found: list[float] = []
    for batch in islice(endless_batches(session), num_batches):
        share = _of_batch(session, batch, number=len(found))
        if share is None:
            return None
        found.append(share)
    return median(found) if found else None


@contextmanager
def put_back(session: Session) -> Iterator[None]:
    """Give weights and buffers back as they were, whatever is trained meanwhile; the optimizer ends without state."""
    parameters = [parameter for group in session.optimizer.param_groups for parameter in group["params"]]
    tensors = [*parameters, *session.model.buffers()]
    before = _copies(tensors)
    session.optimizer.state.clear()
    try:
        yield
    finally:
        session.optimizer.state.clear()
        with torch.no_grad():
            for tensor, start in zip(tensors, before, strict=True):
                tensor.copy_(start)


def _of_batch(session: Session, batch: Batch, *, number: int) -> float | None:
    parameters = [parameter for group in session.optimizer.param_groups for parameter in group["params"]]
    before = _copies(parameters)
    with put_back(session):
        if not _one_update(session, batch, number=number):
            return None
        changes = [after - start for after, start in zip(_copies(parameters), before, strict=True)]
        images, targets = session.augment(batch, number)
        images = session.prepare(images)

        def loss(share: float) -> float:
            with torch.no_grad():
                for parameter, start, change in zip(parameters, before, changes, strict=True):
                    torch.add(start, change, alpha=share, out=parameter)
            return _loss(session, images, targets)

        return largest_harmless(loss)


def _one_update(session: Session, batch: Batch, *, number: int) -> bool:
    """Update once at the peak rates; a loss scale that starts too high is given time to come down."""
    for _ in range(_TRIES):
        with unchanged_random(session.device):
            if bool(update(session, batch, step=0, tried=number).applied):
                return True
    return False


def _loss(session: Session, images: Tensor, targets: Tensor) -> float:
    """Return the loss that training would see on a batch, passed through the network in as many parts."""
    total = 0.0
    with torch.no_grad(), unchanged_random(session.device):
        for start, end in pairwise(even_parts(len(images), session.parts)):
            with session.precision.forward():
                loss = session.criterion(session.model(images[start:end]), targets[start:end])
            total += float(loss) * (end - start) / len(images)
    return total


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def largest_harmless(loss: Callable[[float], float]) -> float | None:
    """Find by exponential search and bisection the largest share whose loss is not above that of share 0.

    Args:
        loss: after a step of this share of the peak; what is not finite is above.

    Returns:
        A share between 1.5e-5 and 256, or None if even the least raises the loss.
    """
    start = loss(0.0)

    def harmless(share: float) -> bool:
        return loss(share) <= start  # a NaN is not

    low, high = 1.0, 1.0
    if harmless(1.0):
        while (high := low * _FACTOR) <= _MOST and harmless(high):
            low = high
        if high > _MOST:
            return low
    else:
        while (low := high / _FACTOR) >= _LEAST and not harmless(low):
            high = low
        if low < _LEAST:
            return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if harmless(middle) else (low, middle)
    return low
