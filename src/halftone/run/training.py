"""Training as a stream of events: from a recipe, or from the folder of a run that was stopped."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from halftone.base.errors import DataError, Interrupted, ModelFileError, ResourceError
from halftone.base.records import decided
from halftone.data.augment.pipeline import denormalise
from halftone.loop.evaluate import Evaluation, conclude, evaluate
from halftone.loop.events import EpochDone, Evaluating, StepTaken, Unreadable
from halftone.loop.session import Session
from halftone.loop.state import Progress, restore
from halftone.loop.train import train
from halftone.precision.formats import float32_arithmetic
from halftone.run.checkpoint import SaveRhythm, load_newest, save_checkpoint
from halftone.run.environment import environment
from halftone.run.events import (
    BestSaved,
    CheckpointDue,
    CheckpointSaved,
    Event,
    Finished,
    FirstBatch,
    Notice,
    Planned,
    Started,
    Tested,
)
from halftone.run.folder import RunFolder, check_free, create_folder
from halftone.run.model_file import load_model, save_model
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import build_session, evaluation_set, start_weights
from halftone.system.memory import keep_freed_memory


@dataclass(slots=True)
class StopRequest:
    """Set from a signal handler to end a run after the step under way."""

    signal: int | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way."""

    prepared: Prepared
    session: Session
    progress: Progress
    folder: RunFolder
    rhythm: SaveRhythm
    stop: StopRequest


def training(
    recipe: Recipe, *, data: Any = None, model: nn.Module | None = None, stop: StopRequest | None = None
) -> Iterator[Event]:
    """Train as a recipe says, and yield what happens.

    Nothing is printed and nothing runs ahead: stop iterating, and training stands still. While it runs, the
    precision of fp32 products on CUDA is set for the whole process.

    Args:
        recipe: the wish.
        data: data passed in Python; see `open_given`.
        model: a network passed in Python.
        stop: ends the run when its signal is set, after saving.

    Raises:
        HalftoneError: see its kinds. `Interrupted` after a stop.
    """
    if recipe.keep_memory:
        keep_freed_memory()
    check_free(recipe)
    prepared = make_plan(recipe, data=data, model=model)
    prepared = prepared.with_plan(prepared.plan.replaced(weights=start_weights(prepared)))
    yield Planned(prepared.plan)
    session = build_session(prepared)
    plan = prepared.plan
    folder = create_folder(plan.settled, model=plan.settled.model.name)
    folder.write_plan(plan, environment(plan))
    run = _Run(prepared, session, Progress.start(session.device), folder, _rhythm(prepared), stop or StopRequest())
    yield _started(run)
    yield from _notices(prepared)
    yield _first_batch(session)
    yield from _save(run)  # so that there is something to resume from, whenever the run is killed
    yield from _train(run)


def resuming(
    path: Path,
    *,
    workers: int | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    stop: StopRequest | None = None,
) -> Iterator[Event]:
    """Go on with a run that was stopped or killed, exactly where its newest checkpoint stands.

    Args:
        path: the run's folder.
        workers: another number of decoding threads; it changes nothing in the result.
        data: as when the run began.
        model: as when the run began.
        stop: as for `training`.

    Raises:
        HalftoneError: as for `training`; `ModelFileError` if there is no whole checkpoint, `DataError` if the data
            changed.
    """
    folder = RunFolder(path.expanduser().resolve())
    before = folder.read_plan()
    recipe = before.settled
    if workers is not None:
        recipe = recipe.replaced(data=recipe.data.replaced(workers=workers))
    if recipe.keep_memory:
        keep_freed_memory()
    state, checkpoint, refused = load_newest(folder.checkpoints)
    prepared = make_plan(recipe, data=data, model=model)
    if prepared.plan.data.fingerprint != before.data.fingerprint:
        raise ModelFileError(
            f"the data changed since the run began: {before.data.num_train} training and "
            f"{before.data.num_validation} validation images then, {prepared.plan.data.num_train} and "
            f"{prepared.plan.data.num_validation} now, or others of the same number",
            hint="bring the data back as it was, or start a new run from the weights: --weights best.safetensors",
        )
    prepared = prepared.with_plan(before)
    session = build_session(prepared)
    progress = Progress.start(session.device)
    restore(session, progress, state)
    run = _Run(prepared, session, progress, folder, _rhythm(prepared, progress), stop or StopRequest())
    yield Planned(before)
    yield _started(run)
    for reason in refused:
        yield Notice(f"passed over: {reason}")
    yield Notice(f"resumed from {checkpoint.name}")
    yield from _train(run)


def _rhythm(prepared: Prepared, progress: Progress | None = None) -> SaveRhythm:
    plan = prepared.plan
    rhythm = SaveRhythm.of(plan.settled.run, batches_per_epoch=plan.batches_per_epoch, total_steps=plan.total_steps)
    if progress is not None:
        rhythm.saved(progress.tried, progress.epoch)
    return rhythm


def _started(run: _Run) -> Started:
    progress = run.progress
    return Started(run.prepared.plan, run.folder, progress.tried, progress.epoch, run.prepared.validation)


def _notices(prepared: Prepared) -> Iterator[Event]:
    for note in prepared.plan.data.notes:
        yield Notice(note)
    for fault in prepared.unreadable:
        yield Unreadable("train", fault)


def _first_batch(session: Session) -> FirstBatch:
    """Show what the network will see. Batches and their changes are drawn from streams of their own."""
    order = session.order(0)[: min(session.batch_size, 16)]
    batch = next(iter(session.feed.batches(order, len(order), epoch=0)))
    images, _ = session.augment(batch, 0)
    return FirstBatch(denormalise(images, session.augment.spec).cpu(), batch.labels.cpu())


def _train(run: _Run) -> Iterator[Event]:
    plan, session, progress = run.prepared.plan, run.session, run.progress
    num_images = plan.data.num_train + plan.data.num_validation + plan.data.num_unreadable
    allowed = int(plan.settled.data.max_bad * num_images) if plan.settled.data.on_error == "skip" else 0
    unreadable = {fault.name for fault in run.prepared.unreadable}
    with float32_arithmetic(decided(plan.settled.precision.mode)):
        for event in train(session, progress, max_skipped=plan.settled.precision.max_skipped):
            yield event
            if isinstance(event, Unreadable):
                unreadable.add(event.fault.name)
                _check_unreadable(unreadable, allowed, event)
            elif isinstance(event, EpochDone):
                yield from _save_epoch(run, event)
            # at the end of an epoch the state is saved after the evaluation, not before it
            within = isinstance(event, StepTaken) and event.batch < plan.batches_per_epoch
            if (within or isinstance(event, EpochDone)) and run.rhythm.due(progress.tried):
                yield from _save(run)
            if run.stop.signal is not None and isinstance(event, StepTaken | Evaluating | EpochDone):
                yield from _save(run)
                raise _interrupted(run)
        yield from _save(run)
        if run.prepared.test is not None and session.best.epoch:
            yield Tested(_test(run))
    yield Finished(run.folder, session.best.epoch, progress.seconds)


def _save(run: _Run) -> Iterator[Event]:
    """Save a checkpoint, after whoever keeps a log has brought it up to date. A full disk does not end the run."""
    tried, epoch = run.progress.tried, run.progress.epoch
    if run.rhythm.last == (tried, epoch):
        return
    yield CheckpointDue(tried)
    run.rhythm.saved(tried, epoch)
    keep = run.prepared.plan.settled.run.keep
    try:
        path = save_checkpoint(run.folder.checkpoints, run.session, run.progress, keep=keep)
    except ResourceError as error:
        yield Notice(f"the checkpoint could not be saved, and the one before it is kept: {error}")
    else:
        yield CheckpointSaved(path, tried)


def _save_epoch(run: _Run, done: EpochDone) -> Iterator[Event]:
    """Save the weights of the epoch, and again as the best ones if they are."""
    model, folder, plan = run.session.evaluated(), run.folder, run.prepared.plan
    metrics = done.evaluation.metrics
    try:
        if done.improved:
            save_model(folder.best, model, plan, epoch=done.epoch, step=done.step, metrics=metrics)
            yield BestSaved(folder.best, done.epoch, done.evaluation)
        save_model(folder.last, model, plan, epoch=done.epoch, step=done.step, metrics=metrics)
    except ResourceError as error:
        yield Notice(f"the weights of epoch {done.epoch} could not be saved: {error}")


def _check_unreadable(unreadable: set[str], allowed: int, event: Unreadable) -> None:
    if len(unreadable) > allowed:
        fault = event.fault
        raise DataError(
            f"{len(unreadable)} images cannot be read, and at most {allowed} are skipped; the last is "
            f"{fault.name}: {fault.reason}",
            hint="`halftone check-data` names them all; --data.max_bad allows more",
        )


def _interrupted(run: _Run) -> Interrupted:
    error = Interrupted(
        f"stopped after step {run.progress.tried} of {run.prepared.plan.total_steps}; everything is saved",
        hint=f"go on with: halftone train --resume {run.folder.path}",
    )
    error.exit_code = 130 if run.stop.signal == signal.SIGINT else 75  # type: ignore[misc]
    return error


def _test(run: _Run) -> Evaluation:
    """Evaluate the best weights on the part that was kept for the end."""
    assert run.prepared.test is not None
    plan, device = run.prepared.plan, run.session.device
    model = run.session.evaluated()
    best = load_model(run.folder.best, model)
    return conclude(evaluate(best.module, evaluation_set(plan, run.prepared.test, device)))
