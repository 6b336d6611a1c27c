"""One optimizer update, top to bottom."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from halftone.data.feed import Batch
from halftone.loop.session import Session
from halftone.optim.loss import main_output


@dataclass(slots=True)
class StepResult:
    """What an update came to; the tensors are on the device and were not waited for."""

    applied: bool | Tensor
    loss: Tensor
    num_correct: Tensor | None
    grad_norm: Tensor | None
    update_ratio: Tensor | None


def update(session: Session, batch: Batch, *, step: int | Tensor, tried: int) -> StepResult:
    """Train on one batch.

    Args:
        session: the built things.
        batch: uint8 images and labels on the device.
        step: updates applied before this one, a number or on the device, []; the schedule follows it.
        tried: updates tried before this one; the random streams follow it.
    """
    session.set_rates(step)
    images, targets = session.augment(batch, tried)
    images = session.prepare(images)
    total, correct = None, None
    bounds = even_parts(len(images), session.parts)
    whole = len(bounds) == 2
    for start, end in pairwise(bounds):
        inputs, wanted = (images, targets) if whole else (images[start:end], targets[start:end])
        with session.precision.forward():
            outputs = session.forward(inputs)
            loss = session.criterion(outputs, wanted)
        if not whole:
            loss = loss * (len(inputs) / len(images))
        session.precision.backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
        if session.count_correct:
            hits = (main_output(outputs).detach().argmax(1) == wanted).sum()
            correct = hits if correct is None else correct + hits
    assert total is not None
    if session.penalty is not None:
        session.penalty.add_gradients(session.precision.scale)
    measures = session.update_ratio_every > 0 and tried % session.update_ratio_every == 0
    if measures:
        session.update_ratio.remember()
    outcome = session.precision.step()
    ratio = session.update_ratio.measured() if measures else None
    if session.average is not None:
        session.average.update(outcome.applied)
    return StepResult(outcome.applied, total, correct, outcome.grad_norm, ratio)


def even_parts(num_images: int, parts: int) -> list[int]:
    """Return the bounds of a batch's parts, which differ by one image at the most.

    No part has a single image as long as the batch has more: batch normalisation needs two.
    """
    parts = max(1, min(parts, num_images // 2))
    return [num_images * part // parts for part in range(parts + 1)]
