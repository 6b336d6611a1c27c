"""Training as a stream of events: from a recipe, or from the folder of a run that was stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from halftone.base.errors import ModelFileError
from halftone.base.files import remove_stale
from halftone.base.records import decided
from halftone.data.augment.pipeline import denormalise
from halftone.loop.events import Unreadable
from halftone.loop.fitting import refuse_unlike
from halftone.loop.session import Session
from halftone.loop.state import capture, restore
from halftone.run.checkpoint import load_newest
from halftone.run.environment import environment
from halftone.run.events import Event, FirstBatch, Notice, Planned
from halftone.run.fingerprint import check_same_settings, resumed, write_fingerprint
from halftone.run.folder import RunFolder, check_free, create_folder
from halftone.run.plan.data import check_same_data
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import Plan
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from halftone.run.stopping import StopRequest, leave_early, nothing_to_lose
from halftone.run.under_way import Run, started, train_on
from halftone.system.memory import keep_freed_memory, out_of_memory_named


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
            run = Run.begin(prepared, session, folder, stop)
            yield started(run)
            yield from _notices(prepared)
            yield _first_batch(session)
            yield from run.saving.checkpoint()  # so that there is something to resume from, whenever it is killed
            yield from train_on(run)


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
            run = Run.begin(prepared, build_session(prepared), folder, stop)
            _restore(run, state, checkpoint)
        leave_early(stop)
        yield Planned(before)
        yield started(run)
        for reason in refused:
            yield Notice(f"passed over: {reason}")
        yield from map(Notice, resumed(folder, before, checkpoint, step=run.progress.tried))
        if run.progress.divided > 1:
            yield Notice(f"memory ran out before: each part of a batch is still divided by {run.progress.divided}")
        yield from train_on(run)


def _restore(run: Run, state: dict[str, Any], checkpoint: Path) -> None:
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
