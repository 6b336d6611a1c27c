"""The training loop: a generator of events, and the whole way of a run on one page."""

import time
from collections.abc import Generator, Iterator

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from halftone.base.errors import Diverged
from halftone.data.feed import Batch
from halftone.loop.blame import blame
from halftone.loop.evaluate import Evaluation, evaluate, nothing_seen
from halftone.loop.events import (
    BatchDivided,
    BatchLeftOut,
    EpochDone,
    Evaluating,
    EvaluationDivided,
    GradientsVanished,
    LayersHalted,
    LayersThawed,
    LoopEvent,
    PicturesGrown,
    RateLowered,
    StepTaken,
    StoppedEarly,
    Unreadable,
    WarmupDecided,
)
from halftone.loop.passes import even_parts
from halftone.loop.session import Session
from halftone.loop.state import Progress, settle
from halftone.loop.step import StepResult, update
from halftone.loop.vanishing import VANISHED
from halftone.precision.config import lowered
from halftone.system.memory import peak_bytes


def train(session: Session, progress: Progress, *, max_skipped: int) -> Generator[LoopEvent, None, None]:
    """Train from where `progress` stands to the end, evaluating after each epoch.

    Whenever an event comes out, the session and the progress are at rest and can be saved.

    Where the device decides which updates are applied, the host hears of each half of `max_skipped` steps later, so as
    not to wait for it, and of all at the end of an epoch.

    Raises:
        Diverged: `max_skipped` steps in a row had gradients that are not finite.
    """
    while not progress.stopped and (progress.batch or _has_steps_left(session, progress)):
        yield from _train_epoch(session, progress, max_skipped)
        yield from _finish_epoch(session, progress)


def _has_steps_left(session: Session, progress: Progress) -> bool:
    return progress.epoch < session.epochs and progress.tried < session.max_batches


def _train_epoch(session: Session, progress: Progress, max_skipped: int) -> Iterator[LoopEvent]:
    session.enter_training()
    settle(session, progress)
    session.precision.wait(session.schedule.needs_host(progress.step))
    step = progress.step if session.precision.waits else torch.full((), progress.step, device=session.device)
    remaining = session.max_batches - progress.tried
    end = min(session.batches_per_epoch, progress.batch + remaining)
    first = progress.batch * session.batch_size
    order = session.order(progress.epoch)[first : end * session.batch_size]
    batch: Batch | None = None
    clock = time.perf_counter()
    batches = session.feed.batches(order, session.batch_size, epoch=progress.epoch, first=first)
    for batch in _waited_for(batches, progress):
        for fault in batch.faults:
            yield Unreadable("train", fault)
        num_images = batch.labels.shape[0]
        if num_images < min(2, session.batch_size):  # what is left of a batch of broken images
            progress.batch += 1
            progress.tried += 1
            yield BatchLeftOut(progress.tried)
            continue
        yield from _change_course(session, progress)
        result = update(session, batch, step=step, tried=progress.tried, divided=progress.divided)
        step = step + result.applied
        progress.tried += 1
        progress.batch += 1
        progress.count(result.applied, result.loss, result.num_correct, num_images)
        progress.hear(behind=max_skipped // 2)
        now = time.perf_counter()
        progress.seconds += now - clock
        progress.train_seconds += now - clock
        clock = now
        yield from _keep_division(session, progress, result, num_images)
        yield from _watch_warmup(session, progress, result)
        yield StepTaken(
            tried=progress.tried,
            step=step,
            epoch=progress.epoch + 1,
            batch=progress.batch,
            num_images=num_images,
            loss=result.loss,
            num_correct=result.num_correct,
            lr=session.optimizer.param_groups[0]["lr"],
            applied=result.applied,
            loss_scale=session.precision.scale,
            grad_norm=result.grad_norm,
            seconds=progress.seconds,
            update_ratio=result.update_ratio,
        )
        if result.grad_norm is not None and progress.vanishing.look(progress.tried, result.grad_norm):
            half = lowered(session.precision.mode) == "fp16"
            yield GradientsVanished(progress.tried, VANISHED, half, session.precision.scale)
        _refuse_divergence(session, progress, batch, max_skipped)
    clock = time.perf_counter()
    settle(session, progress)
    waited = time.perf_counter() - clock
    progress.seconds += waited
    progress.train_seconds += waited
    _refuse_divergence(session, progress, batch, max_skipped)


def _waited_for(batches: Iterator[Batch], progress: Progress) -> Iterator[Batch]:
    """Yield the batches, and count the seconds in which the host had none to work on."""
    clock = time.perf_counter()
    for batch in batches:
        progress.wait_seconds += time.perf_counter() - clock
        yield batch
        clock = time.perf_counter()


def _change_course(session: Session, progress: Progress) -> Iterator[PicturesGrown | LayersThawed | LayersHalted]:
    """Change what the next step does otherwise than those before it, and say so."""
    if session.sizes.grows_at(progress.tried):
        yield PicturesGrown(progress.tried, session.sizes.at(progress.tried))
    if progress.tried >= session.freezing.next_step:  # no more updates can have been applied than were tried
        yield from _change_frozen(session, progress)


def _change_frozen(session: Session, progress: Progress) -> Iterator[LayersThawed | LayersHalted]:
    """Let the layers train, or stop, whose step has come; nothing happens if skipped steps put it off."""
    settle(session, progress)
    thawed, halted = session.freezing.thaw(progress.step), session.freezing.halt(progress.step)
    num_trainable = sum(weight.numel() for weight in session.model.parameters() if weight.requires_grad)
    if thawed:
        yield LayersThawed(progress.tried, progress.step, tuple(thaw.name for thaw in thawed), num_trainable)
    if halted:
        yield LayersHalted(progress.tried, progress.step, tuple(halt.name for halt in halted), num_trainable)


def _keep_division(session: Session, progress: Progress, result: StepResult, num_images: int) -> Iterator[BatchDivided]:
    """If memory ran out in a step, stay with the parts that it was made in, and say so."""
    if not result.shortage:
        return
    progress.divided = result.divided
    normalised = any(isinstance(layer, _BatchNorm) for layer in session.model.modules())
    num_parts = _num_parts(session, progress, num_images)
    yield BatchDivided(progress.tried, num_images, num_parts, normalised, result.shortage)


def keep_passes(progress: Progress, part: str, evaluation: Evaluation) -> Iterator[EvaluationDivided]:
    """If memory ran out in an evaluation, stay with the images per pass that it ended with, and say so."""
    if evaluation.shortage:
        progress.evaluated_at_once = evaluation.at_once
        yield EvaluationDivided(progress.tried, part, evaluation.at_once, evaluation.shortage)


def _num_parts(session: Session, progress: Progress, num_images: int) -> int:
    return len(even_parts(num_images, session.parts * progress.divided)) - 1


def _watch_warmup(session: Session, progress: Progress, result: StepResult) -> Iterator[WarmupDecided]:
    """Let an adaptive warmup see what the step came to; it sees host numbers, which `needs_host` provides."""
    schedule = session.schedule
    if schedule.adaptive is None or not schedule.adaptive.watches(progress.step):
        return
    ratio = None if result.update_ratio is None else float(result.update_ratio)
    applied = bool(result.applied)
    decided = schedule.observe(progress.step, float(result.loss), applied=applied, update_ratio=ratio)
    if decided is not None:
        yield WarmupDecided(progress.tried, progress.step, decided.action, decided.share, decided.reason)


def _refuse_divergence(session: Session, progress: Progress, batch: Batch | None, max_skipped: int) -> None:
    """Stop after too many skipped steps, with the layer that a pass over the last batch blames."""
    if progress.longest_row < max_skipped:
        return
    said = (
        f"training diverged: {progress.longest_row} steps in a row, up to step {progress.row_end}, had gradients "
        "that are not finite"
    )
    fault, remedy = ("", "") if batch is None else blame(session, batch, tried=progress.tried - 1)
    raise Diverged(
        f"{said}: {fault}" if fault else said,
        hint=remedy or "lower --lr, lengthen --warmup, set --optimizer.clip 1, or train with --precision fp32",
    )


def _finish_epoch(session: Session, progress: Progress) -> Iterator[LoopEvent]:
    clock = time.perf_counter()
    epoch = progress.epoch + 1
    is_last = epoch >= session.epochs or progress.tried >= session.max_batches
    validates = epoch % session.validate_every == 0 or is_last
    evaluation = (yield from _evaluate(session, progress)) if validates else nothing_seen(session.validation)
    progress.epoch = epoch  # not before: a run that is stopped within the evaluation repeats it
    improved = validates and session.best.observe(evaluation.metrics, progress.epoch)
    progress.seconds += time.perf_counter() - clock
    plateau, loss = session.schedule.plateau, evaluation.metrics.loss
    scale, seen = session.precision.scale, progress.num_images
    done = EpochDone(
        epoch=progress.epoch,
        step=progress.step,
        seconds=progress.seconds,
        train_loss=float(progress.loss_sum) / seen if seen else None,
        train_accuracy=int(progress.num_correct) / seen if seen and session.count_correct else None,
        evaluation=evaluation,
        lr=session.optimizer.param_groups[0]["lr"],
        images_per_second=seen / progress.train_seconds if progress.train_seconds else 0.0,
        train_seconds=progress.train_seconds,
        data_wait_seconds=progress.wait_seconds,
        peak_memory_mb=peak_bytes(session.device) / 2**20,
        loss_scale=None if scale is None else float(scale),
        skipped_steps=progress.skipped,
        improved=improved,
        num_parts=_num_parts(session, progress, session.batch_size),
    )
    lowered = validates and plateau is not None and plateau.observe(float("nan") if loss is None else loss)
    progress.stopped = session.best.exhausted
    progress.begin_epoch()
    yield done
    if lowered and plateau is not None:
        yield RateLowered(progress.epoch, plateau.factor)
    if progress.stopped:
        best = session.best
        yield StoppedEarly(
            progress.epoch,
            f"no better {best.metric} on the validation images in {best.waited} epochs since epoch {best.epoch}",
        )


def _evaluate(session: Session, progress: Progress) -> Generator[LoopEvent, None, Evaluation]:
    """Yield progress and return the evaluation as the generator's value."""
    model = session.evaluated()
    model.eval()
    running = evaluate(model, session.validation, at_once=progress.evaluated_at_once)
    while True:
        try:
            done = next(running)
        except StopIteration as end:
            evaluation: Evaluation = end.value
            break
        yield Evaluating(done, session.validation.num_images)
    yield from keep_passes(progress, "validation", evaluation)
    for fault in evaluation.faults:
        yield Unreadable("validation", fault)
    return evaluation
