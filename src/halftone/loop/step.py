"""One optimizer update, top to bottom."""

from dataclasses import dataclass

from torch import Tensor

from halftone.base.crash import crash_in_step
from halftone.data.feed import Batch
from halftone.loop.passes import pass_through
from halftone.loop.session import Session


@dataclass(slots=True)
class StepResult:
    """What an update came to; the tensors are on the device and were not waited for."""

    applied: bool | Tensor
    loss: Tensor
    num_correct: Tensor | None
    grad_norm: Tensor | None
    update_ratio: Tensor | None
    divided: int
    """Pieces that each part of the batch was divided into: more than before if memory ran out."""
    shortage: str
    """What was said when memory ran out; empty if it did not."""


def update(session: Session, batch: Batch, *, step: int | Tensor, tried: int, divided: int = 1) -> StepResult:
    """Train on one batch.

    Args:
        session: the built things.
        batch: uint8 images and labels on the device.
        step: updates applied before this one, a number or on the device, []; the schedule follows it.
        tried: updates tried before this one; the random streams follow it.
        divided: pieces to divide each part of the batch into, to begin with.

    Raises:
        ResourceError: memory ran out, however small the parts.
    """
    session.set_rates(step)
    images, targets = session.augment(batch, tried)
    passed = pass_through(session, session.prepare(images), targets, divided=divided)
    if session.penalty is not None:
        session.penalty.add_gradients(session.precision.scale)
    measures = session.update_ratio_every > 0 and tried % session.update_ratio_every == 0
    if measures:
        session.update_ratio.remember()
    crash_in_step(tried + 1)
    outcome = session.precision.step()
    ratio = session.update_ratio.measured() if measures else None
    if session.average is not None:
        session.average.update(outcome.applied)
    return StepResult(
        outcome.applied,
        passed.loss,
        passed.num_correct,
        outcome.grad_norm,
        ratio,
        passed.divided,
        passed.shortage,
    )
