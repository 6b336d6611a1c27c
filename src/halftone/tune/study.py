"""A search for settings, as a stream of events: many runs, the poor ones ended early, and what they show.

`tuning` is the stream, `tune` the verb. Several processes that name the same storage and study share the work; what one
of them left, stopped or killed, is continued by whoever comes next, from its newest checkpoint.
"""

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from halftone.base.errors import Interrupted, RecipeError, ResourceError
from halftone.base.files import write_bytes
from halftone.report.figures import to_png
from halftone.run.recipe import Recipe, merge
from halftone.run.stopping import StopRequest, interrupted
from halftone.tune.config import TuneConfig
from halftone.tune.figures import history_figure, importance_figure, slices_figure
from halftone.tune.opening import LOCKS, Study, open_study
from halftone.tune.records import (
    Confirmation,
    Outcome,
    Remark,
    StudyDone,
    StudyOpened,
    Summary,
    TrialDone,
    TrialEpoch,
    TrialStarted,
    TuneEvent,
)
from halftone.tune.search import Claim
from halftone.tune.storage import try_lock
from halftone.tune.summary import best_outcome, confirmation, in_words, write_best, write_summary
from halftone.tune.trial import stored_outcome, train_trial

_MOST_FAILURES = 3
"""Trials that fail one after the other in one process: it is not their settings, then."""


def tuning(
    recipe: Recipe,
    space: Mapping[str, str],
    config: TuneConfig | None = None,
    *,
    study: str | None = None,
    storage: Path | None = None,
    data: Any = None,
    stop: StopRequest | None = None,
) -> Iterator[TuneEvent]:
    """Search for settings, and yield what happens. Each trial is a run in the folder of the study.

    Args:
        recipe: what is searched from; its `stop.metric` judges the trials, on the validation images.
        space: for each setting that is searched its values; see `parse_space`.
        config: how it is searched.
        study: its name, and that of its folder below `run.root`. One that is there already goes on. Without a name, it
            has that of the storage, or one is made up.
        storage: an SQLite file that holds it; without one, `study.db` in its folder.
        data: data passed in Python; see `open_given`.
        stop: ends the search when its signal is set, after saving.

    Raises:
        HalftoneError: see its kinds. `Interrupted` after a stop.
    """
    opened = open_study(
        recipe, space, config or TuneConfig(), name=study, storage=storage, data=data, stop=stop or StopRequest()
    )
    try:
        yield from _run(opened)
    finally:
        opened.search.close()


def tune(
    recipe: Recipe,
    space: Mapping[str, str],
    config: TuneConfig | None = None,
    *,
    study: str | None = None,
    storage: Path | None = None,
    data: Any = None,
) -> Summary:
    """Search for settings and return what was found; see `tuning` for the arguments."""
    *_, last = tuning(recipe, space, config, study=study, storage=storage, data=data)
    assert isinstance(last, StudyDone)
    return last.summary


def _run(study: Study) -> Iterator[TuneEvent]:
    search = study.search
    yield StudyOpened(study.name, study.folder, study.recipe.stop.metric, len(search.outcomes()), search.total)
    if study.config.sampler != "grid" and study.space.size < search.total:
        yield Remark(
            f"there are only {study.space.size:.0f} combinations to try: --sampler grid trains each of them once"
        )
    confirmed: Confirmation | None = None
    try:
        yield from _train_all(study)
        running = search.num_running()
        if running:
            yield Remark(f"{running} trials still run in other processes; whoever ends last sums up")
        elif study.config.confirm:
            confirmed = yield from _confirm(study)
    except Interrupted:
        num_done = len(_write(study, draw=True).outcomes)
        raise _stopped(study, num_done) from None
    yield StudyDone(_write(study, confirmed=confirmed, draw=True))


def _train_all(study: Study) -> Iterator[TuneEvent]:
    """Train trials until all are done or under way.

    Raises:
        ResourceError: the defaults failed, or several trials in a row.
    """
    failures = 0
    while True:
        _leave_if_asked(study)
        claim = study.search.claim()
        if claim is None:
            return
        outcome = yield from _train(study, claim)
        failures = failures + 1 if outcome.status == "failed" else 0
        if failures and (outcome.number == 0 or failures == _MOST_FAILURES):
            which = "the defaults" if outcome.number == 0 else f"{failures} trials in a row"
            raise ResourceError(f"{which} failed: {outcome.fault}", hint="mend that, then begin another study")


def _train(study: Study, claim: Claim) -> Generator[TuneEvent, None, Outcome]:
    """Train a trial, store what it came to, and bring the files of the study up to date."""
    label = f"trial {claim.number}"
    with claim.lock:
        outcome = Outcome(number=claim.number, folder=claim.folder, values=claim.values, status="finished")
        outcome = yield from _one(study, outcome, label, claim)
        study.search.finish(claim, outcome)
    summary = _write(study)
    yield TrialDone(label, outcome, summary.best == outcome.number)
    return outcome


def _one(
    study: Study, outcome: Outcome, label: str, claim: Claim | None = None, *, seed: int | None = None
) -> Generator[TrialStarted | TrialEpoch, None, Outcome]:
    """Train one run: of a claimed trial, or again with another seed and to its end."""

    def is_poor(epoch: int, value: float, num_epochs: int) -> bool:
        return claim is not None and study.search.is_poor(claim, epoch, value, num_epochs)

    try:
        recipe = study.space.applied(study.recipe, outcome.values)
    except RecipeError as error:  # these values do not go together
        return outcome.replaced(status="failed", fault=str(error))
    if seed is not None:
        recipe = Recipe.parse(merge(recipe.model_dump(exclude_unset=True), {"seed": seed}))
    return (
        yield from train_trial(
            outcome,
            recipe,
            study.folder,
            label=label,
            config=study.config,
            is_poor=is_poor,
            data=study.data,
            stop=study.stop,
        )
    )


def _confirm(study: Study) -> Generator[TuneEvent, None, Confirmation | None]:
    """Train the defaults and the best trial again with fresh seeds, in turns."""
    best = best_outcome(study.search.outcomes(), study.recipe.stop.metric)
    if best is None or best.number == 0:
        yield Remark("there is nothing to confirm: no trial beat the defaults")
        return None
    lock = try_lock(study.folder / LOCKS / "confirm")
    if lock is None:
        yield Remark("another process confirms the best trial")
        return None
    seeds = [study.recipe.seed + number for number in range(1, study.config.confirm + 1)]
    found: dict[int, list[Outcome]] = {0: [], best.number: []}
    with lock:
        for seed in seeds:
            for number, values in ((0, {}), (best.number, best.values)):
                _leave_if_asked(study)
                folder = f"confirm-{number:03d}-seed-{seed}"
                outcome = stored_outcome(study.folder / folder)
                if outcome is None:
                    label = f"{f'trial {number}' if number else 'defaults'}, seed {seed}"
                    blank = Outcome(number=number, folder=folder, values=values, status="finished")
                    outcome = yield from _one(study, blank, label, seed=seed)
                    yield TrialDone(label, outcome, is_best=False)
                found[number].append(outcome)
    return confirmation(best.number, seeds, found[0], found[best.number])


def _write(study: Study, *, confirmed: Confirmation | None = None, draw: bool = False) -> Summary:
    """Write the files of the study; with `draw`, the figures, too."""
    with study.search.alone():
        outcomes = study.search.outcomes()
        best = best_outcome(outcomes, study.recipe.stop.metric)
        summary = Summary(
            name=study.name,
            folder=str(study.folder),
            metric=study.recipe.stop.metric,
            config=study.config,
            space=study.space.texts(),
            outcomes=tuple(outcomes),
            best=None if best is None else best.number,
            recipe=None if best is None else str(write_best(best, study.folder)),
            importance=study.search.importance() if draw else None,
            confirmation=confirmed,
        )
        summary = summary.replaced(sentences=in_words(summary))
        write_summary(summary)
        if draw:
            _draw(summary, study)
    return summary


def _draw(summary: Summary, study: Study) -> None:
    figures = {"history.png": history_figure(summary), "slices.png": slices_figure(summary, study.space)}
    if summary.importance is not None:
        num_finished = sum(outcome.status == "finished" and outcome.number > 0 for outcome in summary.outcomes)
        figures["importance.png"] = importance_figure(summary.importance, num_finished)
    for name, figure in figures.items():
        write_bytes(study.folder / name, to_png(figure))


def _leave_if_asked(study: Study) -> None:
    if study.stop.signal is not None:
        raise _stopped(study, len(study.search.outcomes()))


def _stopped(study: Study, num_done: int) -> Interrupted:
    return interrupted(
        study.stop,
        f"stopped; {num_done} of {study.search.total} trials are done, and everything is saved",
        hint=f"go on with the same command and --study {study.name}",
    )
