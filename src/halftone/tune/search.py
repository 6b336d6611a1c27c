"""The one place that knows Optuna: which values come next, which trials are poor, and what all processes share.

Whoever claims a trial holds the lock of the study for that moment, so no trial is claimed twice and no more are trained
than were asked for. Then it holds the lock of the trial until that has ended. A trial that is under way and whose lock
is free was left, and the next one to come goes on with it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from halftone.base.errors import RecipeError
from halftone.base.extras import require
from halftone.base.seeds import stream_seed
from halftone.tune.config import TuneConfig
from halftone.tune.records import Outcome
from halftone.tune.space import Choices, Dimension, Space, Value
from halftone.tune.storage import locked, open_file, try_lock

MOST_TRIES = 3
"""Times that a trial is begun: what ends its process each time is the trial's own fault."""
_FEWEST_FOR_IMPORTANCE = 10
"""Finished trials from which on it is estimated which setting matters."""


@dataclass(slots=True)
class Claim:
    """A trial that this process trains."""

    number: int
    values: dict[str, str]
    trial: Any
    """Optuna's."""
    lock: TextIO
    reported: frozenset[int] = frozenset()
    """Epochs that were reported before the trial was left."""

    @property
    def folder(self) -> str:
        """The name of its run."""
        return trial_folder(self.number)


def trial_folder(number: int) -> str:
    """Return the name of the run of a trial."""
    return f"trial-{number:03d}"


@dataclass(slots=True)
class Search:
    """A study in its storage."""

    space: Space
    config: TuneConfig
    seed: int
    start: dict[str, Value] | None
    """Where in the space the defaults stand; None if outside, as `auto` is."""
    locks: Path
    study: Any
    maximises: bool
    _storage: Any
    _grid: list[dict[str, Value]] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from claiming trials and writing the study's files."""
        with locked(self.locks / "study"):
            yield

    def claim(self) -> Claim | None:
        """Return the next trial to train, one that was left before a new one; None if all are done or under way."""
        with self.alone():
            trials = self.study.get_trials(deepcopy=False)
            left = next(filter(None, (self._take_over(trial) for trial in trials if _is(trial, "RUNNING"))), None)
            if left is not None:
                return left
            num_begun = sum(not _is(trial, "WAITING") for trial in trials)
            if num_begun >= self.total:
                return None
            return self._begin(len(trials), fresh=num_begun == len(trials))

    @property
    def total(self) -> int:
        """Trials in the whole study."""
        return min(self.config.trials, len(self._grid) + 1) if self.config.sampler == "grid" else self.config.trials

    def _begin(self, number: int, *, fresh: bool) -> Claim:
        optuna = require("optuna", extra="tune")
        # its own for each trial: no two processes draw alike, and one that goes on draws as if it had never stopped
        seed = stream_seed(self.seed, "tune", number) % 2**32
        samplers = optuna.samplers
        self.study.sampler = (
            samplers.TPESampler(seed=seed) if self.config.sampler == "tpe" else samplers.RandomSampler(seed)
        )
        self.study.pruner = optuna.pruners.NopPruner()
        point = self.start if number == 0 else self._grid[number - 1] if self._grid else None
        if fresh and point is not None:
            self.study.enqueue_trial(point)
        trial = self.study.ask()
        lock = try_lock(self.locks / trial_folder(trial.number))
        assert lock is not None
        return Claim(trial.number, self._suggested(trial), trial, lock)

    def _suggested(self, trial: Any) -> dict[str, str]:
        """Draw the values of a trial, or read them where they were drawn before."""
        if trial.number == 0 and self.start is None:
            return {}
        drawn = {dimension.name: dimension.text(_suggest(trial, dimension)) for dimension in self.space.dimensions}
        return {} if trial.number == 0 else drawn

    def _take_over(self, frozen: Any) -> Claim | None:
        """Claim a trial that its process left; None if somebody works on it, or it has been tried often enough."""
        lock = try_lock(self.locks / trial_folder(frozen.number))
        if lock is None:
            return None
        optuna = require("optuna", extra="tune")
        trial = optuna.trial.Trial(self.study, frozen._trial_id)
        tries = int(frozen.user_attrs.get("tries", 1)) + 1
        claim = Claim(frozen.number, self._suggested(trial), trial, lock, frozenset(frozen.intermediate_values))
        if tries > MOST_TRIES:
            fault = f"each of the {MOST_TRIES} processes that trained it was killed"
            self.finish(claim, _outcome(claim, "failed", fault))
            return None
        trial.set_user_attr("tries", tries)
        return claim

    def is_poor(self, claim: Claim, epoch: int, value: float, num_epochs: int) -> bool:
        """Report the value of an epoch; return whether the trial is to end. The defaults train to their end."""
        if epoch in claim.reported:
            return False
        claim.trial.report(value, epoch)
        if claim.number == 0 or epoch >= num_epochs:
            return False
        pruners = require("optuna", extra="tune").pruners
        match self.config.pruner:
            case "hyperband":
                self.study.pruner = pruners.HyperbandPruner(min_resource=1, max_resource=num_epochs)
            case "median":
                self.study.pruner = pruners.MedianPruner()
            case "none":
                return False
        return bool(claim.trial.should_prune())

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        """Store what a trial came to, and let go of it.

        Defaults outside of the space say nothing about it, and are hidden from the search as failed; a trial that
        diverged has the worst value that there is.
        """
        states = require("optuna", extra="tune").trial.TrialState
        claim.trial.set_user_attr("outcome", outcome.model_dump(mode="json"))
        if outcome.status == "failed" or (claim.number == 0 and self.start is None):
            self.study.tell(claim.trial, state=states.FAIL)
        elif outcome.status == "pruned":
            self.study.tell(claim.trial, state=states.PRUNED)
        else:
            worst = 0.0 if self.maximises else float("inf")
            self.study.tell(claim.trial, worst if outcome.value is None else outcome.value)
        claim.lock.close()

    def outcomes(self) -> list[Outcome]:
        """Return what the trials came to that have ended, by number."""
        stored = [trial.user_attrs.get("outcome") for trial in self.study.get_trials(deepcopy=False) if _ended(trial)]
        return [Outcome.model_validate(values) for values in stored if values is not None]

    def num_running(self) -> int:
        """Return how many trials are under way."""
        return sum(_is(trial, "RUNNING") for trial in self.study.get_trials(deepcopy=False))

    def importance(self) -> dict[str, float] | None:
        """Estimate the share of each setting in the variance of the metric over the finished trials (fANOVA).

        None where there is one setting only, or fewer than ten finished trials. Trials that diverged are left out: they
        would outweigh all others.
        """
        optuna = require("optuna", extra="tune")
        names = [dimension.name for dimension in self.space.dimensions]
        finished = {outcome.number: outcome.value for outcome in self.outcomes() if outcome.status == "finished"}
        numbers = [trial.number for trial in self.study.get_trials(deepcopy=False) if set(names) <= set(trial.params)]
        if len(names) < 2 or sum(number in finished for number in numbers) < _FEWEST_FOR_IMPORTANCE:
            return None

        def value(trial: Any) -> float:
            found = finished.get(trial.number)
            return float("nan") if found is None else found

        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(self.study, evaluator=evaluator, params=names, target=value)
        return {name: float(share) for name, share in shares.items()}


def open_search(
    storage: Path,
    name: str,
    *,
    space: Space,
    grid: list[dict[str, Value]],
    config: TuneConfig,
    seed: int,
    start: dict[str, Value] | None,
    maximises: bool,
    locks: Path,
    settings: Mapping[str, Any],
) -> Search:
    """Open a study, and make it if it is not there.

    Args:
        storage: the file.
        name: of the study in it.
        space: what is searched.
        grid: its points but that of the defaults, where all of them are tried.
        config: how.
        seed: of the draws.
        start: where in the space the defaults stand.
        maximises: whether more is better.
        locks: a folder for locks.
        settings: all that must be the same in each process that joins, as JSON.

    Raises:
        RecipeError: the study that is there searches something else.
        ModelFileError: the file is no storage.
        ResourceError: Optuna is not installed.
    """
    optuna = require("optuna", extra="tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    locks.mkdir(parents=True, exist_ok=True)
    with locked(locks / "study"):
        opened = open_file(storage)
        study = optuna.create_study(
            study_name=name,
            storage=opened,
            direction="maximize" if maximises else "minimize",
            load_if_exists=True,
        )
        search = Search(space, config, seed, start, locks, study, maximises, opened, grid)
        before = study.user_attrs.get("settings")
        if before is None:
            study.set_user_attr("settings", dict(settings))
    if before is not None and before != settings:
        search.close()
        raise _other_study(name, before, settings)
    return search


def _other_study(name: str, before: Mapping[str, Any], settings: Mapping[str, Any]) -> RecipeError:
    part = next(part for part in settings if before.get(part) != settings[part])
    ours, theirs = settings[part], before.get(part)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        inner = next(key for key in [*theirs, *ours] if theirs.get(key) != ours.get(key))
        part, ours, theirs = f"{part}, {inner}", ours.get(inner, "not set"), theirs.get(inner, "not set")
    return RecipeError(
        f"study = {name}: it is there already, with other settings ({part}: {theirs}, now {ours})",
        hint="give the settings that it began with, or another name: --study NAME",
    )


def _outcome(claim: Claim, status: Any, fault: str) -> Outcome:
    return Outcome(number=claim.number, folder=claim.folder, values=claim.values, status=status, fault=fault)


def _suggest(trial: Any, dimension: Dimension) -> Value:
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(dimension.name, list(dimension.values))
    if dimension.kind == "int":
        return trial.suggest_int(dimension.name, round(dimension.low), round(dimension.high))
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.kind == "log")


def _is(trial: Any, state: str) -> bool:
    return bool(trial.state.name == state)


def _ended(trial: Any) -> bool:
    return bool(trial.state.is_finished())
