"""A run under way: its loop, what is saved and looked at meanwhile, and its conclusion."""

import shlex
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from halftone.base.errors import DataError
from halftone.base.records import decided
from halftone.data.labelled import Labelled, Subset
from halftone.data.streaming import StreamingFeed
from halftone.loop.evaluate import Evaluation, conclude, evaluate
from halftone.loop.events import EpochDone, Evaluating, StepTaken, Unreadable
from halftone.loop.session import Session
from halftone.loop.state import Progress, digest_of
from halftone.loop.train import keep_passes, train
from halftone.precision.formats import float32_arithmetic
from halftone.run.checkpoint import SaveRhythm
from halftone.run.events import Event, Finished, Judged, Notice, Started, Tested
from halftone.run.folder import RunFolder
from halftone.run.learned import Learned, fit_sample
from halftone.run.model_file import load_model
from halftone.run.plan.make import Prepared
from halftone.run.plan.record import Plan
from halftone.run.saving import Saving
from halftone.run.session import evaluation_set
from halftone.run.stopping import StopRequest, interrupted, nothing_to_lose


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way."""

    prepared: Prepared
    session: Session
    progress: Progress
    folder: RunFolder
    saving: Saving
    stop: StopRequest
    learned: Learned = field(default_factory=Learned)

    @classmethod
    def begin(cls, prepared: Prepared, session: Session, folder: RunFolder, stop: StopRequest) -> "Run":
        """Return a run that stands at its beginning."""
        plan, progress = prepared.plan, Progress.start(session.device)
        steps = {"batches_per_epoch": plan.batches_per_epoch, "total_steps": plan.total_steps}
        rhythm = SaveRhythm.of(plan.settled.run, **steps)
        return cls(prepared, session, progress, folder, Saving(plan, session, progress, folder, rhythm), stop)


def started(run: Run) -> Started:
    """Say that a run begins or goes on, and with what."""
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


def train_on(run: Run) -> Iterator[Event]:
    """Train from where a run stands to its end, and yield what happens; see `halftone.run.training`."""
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


def _stop(run: Run) -> Iterator[Event]:
    """Save, and end the run as was asked.

    Raises:
        Interrupted: everything is saved.
        ResourceError: it could not be.
    """
    failure = yield from run.saving.checkpoint()
    if failure is not None:
        raise failure
    raise interrupted(run.stop, *_stopped(run))


def _stopped(run: Run) -> tuple[str, str]:
    """Say of a run that ends on request that it is saved, and how to go on."""
    return (
        f"stopped after step {run.progress.tried} of {run.prepared.plan.total_steps}; everything is saved",
        f"go on with: halftone train --resume {shlex.quote(str(run.folder.path))}",
    )


def _conclude(run: Run) -> Iterator[Event]:
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


def _evaluate(run: Run, model: nn.Module, part: str, images: Labelled) -> Generator[Event, None, Evaluation]:
    """Evaluate on images of a part; return the evaluation as the generator's value."""
    progress = run.progress
    with nothing_to_lose(run.stop, *_stopped(run)):  # the last checkpoint is on disk, and it is all done again
        prepared = evaluation_set(run.prepared.plan, images, run.session.device)
        found = conclude(evaluate(model, prepared, at_once=progress.evaluated_at_once))
    yield from keep_passes(progress, part, found)
    return found
