"""Training as a stream of events: from a recipe, or from the folder of a run that was stopped."""

import shlex
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halftone.base.errors import DataError, ModelFileError
from halftone.base.files import remove_stale
from halftone.base.records import decided
from halftone.data.augment.pipeline import denormalise
from halftone.data.labelled import Labelled, Subset
from halftone.data.streaming import StreamingFeed
from halftone.loop.evaluate import Evaluation, conclude, evaluate
from halftone.loop.events import EpochDone, Evaluating, EvaluationDivided, StepTaken, Unreadable
from halftone.loop.fitting import refuse_unlike
from halftone.loop.session import Session
from halftone.loop.state import Progress, capture, digest_of, restore
from halftone.loop.train import train
from halftone.precision.formats import float32_arithmetic
from halftone.run.checkpoint import SaveRhythm, load_newest
from halftone.run.environment import environment
from halftone.run.events import (
    Event,
    Finished,
    FirstBatch,
    Judged,
    Notice,
    Planned,
    Started,
    Tested,
)
from halftone.run.fingerprint import check_same_settings, resumed, write_fingerprint
from halftone.run.folder import RunFolder, check_free, create_folder
from halftone.run.learned import Learned, fit_sample
from halftone.run.model_file import load_model
from halftone.run.plan.data import check_same_data
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import Plan
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from halftone.run.saving import Saving
from halftone.run.session import build_session, evaluation_set
from halftone.run.stopping import StopRequest, interrupted, leave_early, nothing_to_lose
from halftone.system.memory import keep_freed_memory, out_of_memory_named


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way."""

    prepared: Prepared
    session: Session
    progress: Progress
    folder: RunFolder
    saving: Saving
    stop: StopRequest
    learned: Learned = field(default_factory=Learned)

    @classmethod
    def begin(cls, prepared: Prepared, session: Session, folder: RunFolder, stop: StopRequest) -> "_Run":
        """Return a run that stands at its beginning."""
        plan, progress = prepared.plan, Progress.start(session.device)
        steps = {"batches_per_epoch": plan.batches_per_epoch, "total_steps": plan.total_steps}
        rhythm = SaveRhythm.of(plan.settled.run, **steps)
        return cls(prepared, session, progress, folder, Saving(plan, session, progress, folder, rhythm), stop)


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
    stop = stop or StopRequest()
    if recipe.keep_memory:
        keep_freed_memory()
    hint = "a smaller --batch-size, --size or --model takes less of it"
    with nothing_to_lose(stop), out_of_memory_named(hint):
        check_free(recipe)
        prepared = prepare(recipe, data=data, model=model)
    yield Planned(prepared.plan)
    plan = prepared.plan
    with out_of_memory_named(_smaller(plan)):
        with nothing_to_lose(stop):
            session = build_session(prepared)
        leave_early(stop)
        folder = create_folder(plan.settled, model=plan.settled.model.name)
        with folder.held():
            folder.write_plan(plan, environment(plan))
            write_fingerprint(folder, plan)
            run = _Run.begin(prepared, session, folder, stop)
            yield _started(run)
            yield from _notices(prepared)
            yield _first_batch(session)
            yield from run.saving.checkpoint()  # so that there is something to resume from, whenever it is killed
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
    stop = stop or StopRequest()
    folder = RunFolder(path.expanduser().resolve())
    before = folder.read_plan()
    if workers is not None:
        data_config = before.settled.data.replaced(workers=workers)
        before = before.replaced(settled=before.settled.replaced(data=data_config))
    if before.settled.keep_memory:
        keep_freed_memory()
    with folder.held(), out_of_memory_named(_smaller(before)):
        with nothing_to_lose(stop):
            check_same_settings(folder, before)
            remove_stale(folder.path)
            state, checkpoint, refused = load_newest(folder.checkpoints)
            prepared = make_plan(before.settled, data=data, model=model)
            check_same_data(before.data, prepared.plan.data)
            prepared = prepared.with_plan(before)
            run = _Run.begin(prepared, build_session(prepared), folder, stop)
            _restore(run, state, checkpoint)
        leave_early(stop)
        yield Planned(before)
        yield _started(run)
        for reason in refused:
            yield Notice(f"passed over: {reason}")
        yield from map(Notice, resumed(folder, before, checkpoint, step=run.progress.tried))
        if run.progress.divided > 1:
            yield Notice(f"memory ran out before: each part of a batch is still divided by {run.progress.divided}")
        yield from _train(run)


def _restore(run: _Run, state: dict[str, Any], checkpoint: Path) -> None:
    """Put a saved state into a session that was built anew.

    Raises:
        ModelFileError: it is the state of something else.
    """
    try:
        refuse_unlike(capture(run.session, run.progress), state)
        restore(run.session, run.progress, state)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{checkpoint} does not fit this run: {' '.join(str(error).split())[:200]}",
            hint="a network passed in Python, or in a file of yours, must be the one that was trained",
        ) from error
    run.saving.rhythm.saved(run.progress.tried, run.progress.epoch)
    run.learned.recall(run.folder, epoch=run.progress.epoch, best=run.session.best.epoch)


def _smaller(plan: Plan) -> str:
    """Say what helps when memory runs out."""
    parts = 2 * decided(plan.settled.accumulate)
    return f"--accumulate {parts} takes less of it and keeps the batch; a smaller --batch-size or --size, too"


def _started(run: _Run) -> Started:
    progress, session = run.progress, run.session
    return Started(
        run.prepared.plan,
        run.folder,
        progress.tried,
        progress.epoch,
        run.prepared.validation,
        weights_digest=lambda: digest_of(*session.model.state_dict().values()),
        order_digest=lambda: digest_of(torch.from_numpy(session.order(progress.epoch))),
    )


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
    unreadable = {"train": {fault.name for fault in run.prepared.unreadable}, "validation": set[str]()}
    with float32_arithmetic(decided(plan.settled.precision.mode)):
        for event in train(session, progress, max_skipped=plan.settled.precision.max_skipped):
            yield event
            if isinstance(event, EpochDone) and isinstance(session.feed, StreamingFeed):
                yield from (Notice(remark) for remark in session.feed.remarks())
            if isinstance(event, Unreadable):
                unreadable[event.part].add(event.fault.name)
                _check_unreadable(unreadable[event.part], plan, event)
            elif isinstance(event, EpochDone):
                run.learned.hear(event)
                yield from run.saving.weights(event)
            # at the end of an epoch the state is saved after the evaluation, not before it
            at_rest = isinstance(event, EpochDone) or (isinstance(event, StepTaken) and not _ends_epoch(event, plan))
            if at_rest and run.saving.rhythm.due(progress.tried):
                yield from run.saving.checkpoint()
            if run.stop.signal is not None and isinstance(event, StepTaken | Evaluating | EpochDone):
                yield from _stop(run)
        yield from run.saving.checkpoint()
        failure = yield from run.saving.waiting()
        if failure is not None:
            raise failure
        yield from _conclude(run)
    yield Finished(run.folder, session.best.epoch, progress.seconds)


def _ends_epoch(event: StepTaken, plan: Plan) -> bool:
    return event.batch >= plan.batches_per_epoch or event.tried >= plan.total_steps


def _check_unreadable(unreadable: set[str], plan: Plan, event: Unreadable) -> None:
    config, facts = plan.settled.data, plan.data
    num_images = facts.num_train + facts.num_unreadable if event.part == "train" else facts.num_validation
    allowed = int(config.max_bad * num_images) if config.on_error == "skip" else 0
    if len(unreadable) > allowed:
        fault = event.fault
        raise DataError(
            f"{len(unreadable)} {event.part} images cannot be read, and at most {allowed} are skipped; the last is "
            f"{fault.name}: {fault.reason}",
            hint="`halftone check-data` names them all; --data.max-bad allows more",
        )


def _stop(run: _Run) -> Iterator[Event]:
    """Save, and end the run as was asked.

    Raises:
        Interrupted: everything is saved.
        ResourceError: it could not be.
    """
    failure = yield from run.saving.checkpoint()
    if failure is not None:
        raise failure
    raise interrupted(run.stop, *_stopped(run))


def _stopped(run: _Run) -> tuple[str, str]:
    """Say of a run that ends on request that it is saved, and how to go on."""
    return (
        f"stopped after step {run.progress.tried} of {run.prepared.plan.total_steps}; everything is saved",
        f"go on with: halftone train --resume {shlex.quote(str(run.folder.path))}",
    )


def _conclude(run: _Run) -> Iterator[Event]:
    """Measure the best weights on the part that was kept for the end and on training images, and judge the run."""
    prepared, training = run.prepared, None
    if run.session.best.epoch:
        model = load_model(run.folder.best, run.session.evaluated()).module
        if prepared.test is not None:
            tested = yield from _evaluate(run, model, "test", prepared.test)
            yield from (Unreadable("test", fault) for fault in tested.faults)
            yield Tested(tested)
        most = prepared.plan.settled.run.fit_images
        if most:
            labels = (prepared.train.labels, prepared.validation.labels)
            sample = Subset(prepared.train, fit_sample(*labels, most, seed=prepared.plan.settled.seed))
            training = (yield from _evaluate(run, model, "train", sample)).metrics
    yield Judged(training, run.learned.verdict(training))


def _evaluate(run: _Run, model: nn.Module, part: str, images: Labelled) -> Generator[Event, None, Evaluation]:
    """Evaluate on images of a part; return the evaluation as the generator's value."""
    progress = run.progress
    with nothing_to_lose(run.stop, *_stopped(run)):  # the last checkpoint is on disk, and it is all done again
        prepared = evaluation_set(run.prepared.plan, images, run.session.device)
        found = conclude(evaluate(model, prepared, at_once=progress.evaluated_at_once))
    if found.shortage:
        progress.evaluated_at_once = found.at_once
        yield EvaluationDivided(progress.tried, part, found.at_once, found.shortage)
    return found
