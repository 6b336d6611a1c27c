"""A comparison under way: its folder, its runs in turns, and what they show in the end."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halftone.base.errors import Interrupted, ModelFileError, RecipeError
from halftone.base.files import make_folder
from halftone.base.records import Record, read_yaml, write_yaml
from halftone.comparison.records import CompareConfig, Comparison, Outcome, Variant, Verdict
from halftone.comparison.trainers.outcome import Watched, read_outcome, read_predictions
from halftone.comparison.trainers.pool import Job, RunBegun, RunEnded, RunEpoch, train_jobs
from halftone.comparison.vary import recipe_of, settings_of
from halftone.comparison.verdicts.agreement import Predicted
from halftone.comparison.verdicts.notes import notes_of, surroundings
from halftone.comparison.verdicts.pairing import target_of
from halftone.comparison.verdicts.sequential import is_decided
from halftone.comparison.verdicts.verdict import Predictions, judge
from halftone.run.folder import RunFolder
from halftone.run.recipe import merge
from halftone.run.stopping import StopRequest, interrupted
from halftone.run.unattended import QUIET

_FILE = "comparison.yaml"


class Experiment(Record):
    """The wish, as comparison.yaml holds it."""

    config: CompareConfig
    variants: tuple[Variant, ...]
    """The first one is the baseline."""
    base: dict[str, Any]
    """What all runs have in common: a recipe, as from YAML."""
    devices: tuple[str, ...] = ()
    """One run at a time on each; `""` is the one of the recipe. Empty: `with_devices` decides."""
    command: str = ""
    """As it was typed."""

    @property
    def seeds(self) -> range:
        """The seeds of the runs."""
        first = int(self.base.get("seed", 0))
        return range(first, first + self.config.seeds)

    def check(self) -> str:
        """Refuse now what would stop a run later; return what all variants train on.

        Raises:
            RecipeError: a variant is no recipe, has no data, or other data than the baseline.
        """
        sources = [recipe_of(self.base, variant, seed=self.seeds[0]).data.source for variant in self.variants]
        if "given" in sources:
            raise RecipeError("DATA is missing: say what to train on", hint="halftone compare digits --vary ...")
        if len(set(sources)) > 1:
            raise RecipeError(
                f"the variants train on different data: {', '.join(dict.fromkeys(sources))}",
                hint="accuracies on different images cannot be compared in pairs; name the data as DATA",
            )
        return sources[0]

    def save(self, folder: Path) -> None:
        """Write it into the folder of the comparison."""
        write_yaml(folder / _FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "Experiment":
        """Read it back.

        Raises:
            ModelFileError: it is no folder of a comparison.
        """
        if not (folder / _FILE).is_file():
            raise ModelFileError(
                f"{folder} is not the folder of a comparison: it has no {_FILE}", hint="name the folder that it printed"
            )
        try:
            return cls.parse(read_yaml(folder / _FILE), source=str(folder / _FILE))
        except RecipeError as error:
            raise ModelFileError(f"the comparison cannot be read: {error}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class Begun:
    """A comparison begins, or goes on."""

    folder: Path
    experiment: Experiment
    done: tuple[Outcome, ...]
    """Of runs that had ended before."""


@dataclass(frozen=True, slots=True)
class RunDone:
    """A run has ended, in whatever way."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    """As it looks now."""


@dataclass(frozen=True, slots=True)
class Compared:
    """All is over."""

    comparison: Comparison


CompareEvent = Begun | RunBegun | RunEpoch | RunDone | Compared


@dataclass(slots=True)
class _UnderWay:
    """What is known so far."""

    folder: Path
    experiment: Experiment
    outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    num_continued: int = 0
    """Runs that were interrupted and went on."""

    def path(self, variant: Variant, seed: int) -> Path:
        """Return the folder of a run."""
        number = self.experiment.variants.index(variant)
        plain = re.sub(r"[^A-Za-z0-9.]+", "_", variant.name).strip("_.")[:80]
        return self.folder / "runs" / f"{number}-{plain}-seed-{seed}"

    def read(self, variant: Variant, seed: int) -> Outcome:
        """Read what a run came to."""
        path = self.path(variant, seed)
        settings = settings_of(self.experiment.variants)
        return read_outcome(
            path, variant=variant.name, seed=seed, folder=str(path.relative_to(self.folder)), settings=settings
        )

    def ordered(self) -> tuple[Outcome, ...]:
        """Return all outcomes, seed by seed, in the order of the variants."""
        places = [(variant.name, seed) for seed in self.experiment.seeds for variant in self.experiment.variants]
        return tuple(self.outcomes[place] for place in places if place in self.outcomes)

    def target(self) -> float | None:
        """Return the accuracy to which time is taken."""
        return target_of(self.experiment.config, self.ordered())

    def verdicts(self, predictions: Predictions | None = None) -> tuple[Verdict, ...]:
        """Judge what there is; without predictions, whose files are long, all but the agreement image by image."""
        variants, config = self.experiment.variants, self.experiment.config
        return judge(variants, self.ordered(), config, target=self.target(), predictions=predictions)

    def predictions(self, variant: str, seed: int) -> Predicted | None:
        """Read what the best weights of a run take the validation images for."""
        return read_predictions(self.folder / self.outcomes[variant, seed].folder)

    def jobs(self) -> Iterator[Job]:
        """Yield what is still to be trained: seed by seed, so that variants take turns, and each is first in turn."""
        variants = self.experiment.variants
        for number, seed in enumerate(self.experiment.seeds):
            if self.experiment.config.until == "decided" and self._is_decided():
                return
            turn = number % len(variants)
            for variant in (*variants[turn:], *variants[:turn]):
                if (variant.name, seed) not in self.outcomes:
                    yield self._job(variant, seed)

    def _is_decided(self) -> bool:
        return is_decided(self.experiment.variants, self.ordered(), self.verdicts())

    def _job(self, variant: Variant, seed: int) -> Job:
        path = self.path(variant, seed)
        base = merge({"run": QUIET}, self.experiment.base)
        recipe = recipe_of(base, variant, seed=seed)
        wish = recipe.model_dump(mode="json", exclude_unset=True)
        run = {"group": self.folder.resolve().name, **wish.get("run", {}), "root": str(path.parent), "name": path.name}
        return Job(variant, seed, {**wish, "run": run}, path)


def comparing(experiment: Experiment, folder: Path, *, stop: StopRequest | None = None) -> Iterator[CompareEvent]:
    """Train what is still to be trained, and yield what happens.

    Args:
        experiment: the wish.
        folder: of the comparison; runs in it that have ended are kept, those that were interrupted go on.
        stop: ends the comparison when its signal is set, with the runs under way saved.

    Raises:
        Interrupted: after a stop.
        ResourceError: the folder cannot be written, or another process works in it.
    """
    stop = stop or StopRequest()
    make_folder(folder / "runs")
    with RunFolder(folder).held():
        experiment.save(folder)
        state = _UnderWay(folder, experiment)
        for variant in experiment.variants:
            for seed in experiment.seeds:
                watched = Watched.load(state.path(variant, seed))
                if watched.status in ("finished", "diverged"):  # what failed for want of something is tried again
                    state.outcomes[variant.name, seed] = state.read(variant, seed)
                state.num_continued += bool(watched.startup_seconds and not watched.status)
        yield Begun(folder, experiment, state.ordered())
        for event in train_jobs(state.jobs(), experiment.devices or ("",), folder / "log.txt", stop=stop):
            yield from _heard(event, state)
        if stop.signal is not None:
            raise _stopped(state, stop)
        yield Compared(_conclude(state))


def _heard(event: RunBegun | RunEpoch | RunEnded, state: _UnderWay) -> Iterator[CompareEvent]:
    if not isinstance(event, RunEnded):
        yield event
        return
    job = event.job
    watched = Watched.load(job.path)
    if not watched.status:
        reason = f"its process was ended by signal {event.signal}" if event.signal else "its process ended early"
        memory = ", as it is when memory runs out" if event.signal == 9 else ""
        watched.replaced(status="failed", fault=f"{reason}{memory}; log.txt may say more").save(job.path)
    outcome = state.read(job.variant, job.seed)
    state.outcomes[job.variant.name, job.seed] = outcome
    yield RunDone(outcome, state.verdicts())


def _conclude(state: _UnderWay) -> Comparison:
    experiment, outcomes = state.experiment, state.ordered()
    watched = [Watched.load(state.folder / outcome.folder) for outcome in outcomes]
    return Comparison(
        name=state.folder.name,
        command=experiment.command,
        config=experiment.config,
        variants=experiment.variants,
        outcomes=outcomes,
        verdicts=state.verdicts(state.predictions),
        target=state.target(),
        notes=tuple(
            notes_of(
                outcomes,
                no_joules=[one.no_joules for one in watched],
                devices=experiment.devices,
                num_continued=state.num_continued,
                num_planned=len(experiment.seeds) * len(experiment.variants),
            )
        ),
        environment=surroundings(state.folder / outcome.folder for outcome in outcomes),
    )


def _stopped(state: _UnderWay, stop: StopRequest) -> Interrupted:
    done, planned = len(state.outcomes), len(state.experiment.seeds) * len(state.experiment.variants)
    return interrupted(
        stop,
        f"stopped after {done} of {planned} runs; everything is saved",
        hint=f"go on with: halftone compare --resume {state.folder}",
    )
