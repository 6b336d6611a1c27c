"""Trains a recipe straight, and again with kills, and compares the ends."""

import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from halftone.base.errors import RecipeError
from halftone.base.lengths import Span
from halftone.base.records import write_yaml
from halftone.base.seeds import stream
from halftone.base.tables import read_table
from halftone.exactness import process
from halftone.exactness.ends import differences, state_digest
from halftone.exactness.process import Launch, fault_of
from halftone.exactness.records import Event, Kill, Trained, Verdict, Where
from halftone.loop.components import Difference
from halftone.run.checkpoint import checkpoints, step_of
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe, merge
from halftone.run.stopping import StopRequest
from halftone.run.unattended import QUIET

_KINDS: tuple[Where, ...] = ("in a step", "in a save", "right after resuming")
_IN_A_SAVE = 16
"""Points in the saving of one state and of the weights beside it, about."""
_IN_RESUMING = 12
"""Points in the tidying up of a run that goes on, about."""
_SAVES_PER_EPOCH = 3
"""Unless the recipe says how often: a run that is only saved between epochs is never resumed within one."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """The runs of one verification, and how they are trained."""

    folder: Path
    launch: Launch
    stop: StopRequest

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name)

    def begin(self, name: str, recipe: Mapping[str, Any], crash_at: str = "") -> int:
        """Train a new run, and return how its process ended."""
        wish = merge(recipe, {"run": {**QUIET, "root": str(self.folder), "name": name, "track": []}})
        write_yaml(self.folder / f"{name}.yaml", wish)
        return self._status("train", "--recipe", str(self.folder / f"{name}.yaml"), crash_at=crash_at)

    def go_on(self, name: str, crash_at: str = "") -> int:
        """Resume a run, and return how its process ended."""
        return self._status("train", "--resume", str(self.run(name).path), crash_at=crash_at)

    def straight(self, name: str, recipe: Mapping[str, Any]) -> Trained:
        """Train a run to its end."""
        clock = time.monotonic()
        self.begin(name, recipe)
        return Trained(name=name, seconds=time.monotonic() - clock)

    def _status(self, *arguments: str, crash_at: str) -> int:
        log = self.folder / "log.txt"
        status = self.launch(arguments, crash_at, log, self.stop)
        if status and not (crash_at and status == -signal.SIGKILL):
            raise fault_of(status, log)
        return status


def verify(
    recipe: Recipe, folder: Path, *, kills: int, launch: Launch | None = None, stop: StopRequest | None = None
) -> Iterator[Event]:
    """Train a recipe straight and with kills, each in processes of their own, and compare the ends bit by bit.

    What the first run measured to settle its plan is not measured again: both follow one plan. The second is saved
    three times in an epoch, unless the recipe says how often, so that it is resumed within epochs, too.

    Args:
        recipe: the wish. Its seed also draws where the processes die.
        folder: an empty one, for the runs.
        kills: how many processes die.
        launch: how a process is started, if not as usual.
        stop: ends it all when its signal is set.

    Yields:
        What happens; last, the verdict.

    Raises:
        HalftoneError: as for training; `Interrupted` after a stop.
    """
    trial = _Trial(folder, launch or process.launch, stop or StopRequest())
    yield trial.straight("straight", recipe.model_dump(mode="json", exclude_unset=True))
    plan = trial.run("straight").read_plan()
    steps = _newest_step(trial.run("straight"))
    if steps < 2:
        raise RecipeError(f"{steps} optimizer steps are too few to be killed in", hint="train longer, as --epochs 2")
    settled, died = plan.settled.model_dump(mode="json"), []
    often = _steps_between_saves(recipe, plan, steps)
    settled["run"]["checkpoint_every"] = str(Span(often, "it"))
    drawn = draw_steps(steps, kills, first=often + 1, seed=recipe.seed)
    for event in _train_killed(trial, settled, drawn, seed=recipe.seed):
        died += [event] if isinstance(event, Kill) else []
        yield event
    found = tuple(_compared(trial, "killed"))
    repeats = None
    if found:
        yield trial.straight("again", plan.settled.model_dump(mode="json"))
        repeats = not list(_compared(trial, "again"))
    yield Verdict(
        exact=not found,
        num_steps=steps,
        digest=state_digest(trial.run("straight")),
        kills=tuple(died),
        differences=tuple(map(str, found)),
        repeats=repeats,
    )


def _steps_between_saves(recipe: Recipe, plan: Plan, steps: int) -> int:
    """Return how often the run that is killed is saved: as the recipe says, or a few times in an epoch."""
    if "checkpoint_every" in recipe.run.model_fields_set:
        per_epoch, total = plan.batches_per_epoch, plan.total_steps
        return recipe.run.checkpoint_every.steps(steps_per_epoch=per_epoch, total_steps=total) or total
    return max(1, min(plan.batches_per_epoch, steps) // _SAVES_PER_EPOCH)


def draw_steps(num_steps: int, kills: int, *, first: int, seed: int) -> list[int]:
    """Draw the steps around which processes die, in their order; each once while there are enough.

    Args:
        num_steps: of the run.
        kills: how many to draw.
        first: the first that may be drawn, if the run has as many: to go on from the start again proves nothing.
        seed: of the draw.
    """
    possible = range(min(first, num_steps), num_steps + 1)
    drawn = stream(seed, "steps to die in").choice(possible, kills, replace=kills > len(possible))
    return sorted(drawn.tolist())


def _train_killed(trial: _Trial, recipe: Mapping[str, Any], steps: list[int], *, seed: int) -> Iterator[Event]:
    """Train a run whose processes die one after the other, and go on with it until it has finished."""
    clock, chance, run = time.monotonic(), stream(seed, "points to die in"), trial.run("killed")
    for number, (step, where) in enumerate(zip(steps, cycle(_KINDS), strict=False)):
        at = {
            "in a step": f"{step}+0",
            "in a save": f"{step}+{chance.integers(1, _IN_A_SAVE, endpoint=True)}",
            "right after resuming": f"0+{chance.integers(1, _IN_RESUMING, endpoint=True)}",
        }[where]
        begins = number == 0
        status = trial.begin("killed", recipe, at) if begins else trial.go_on("killed", at)
        if not status:  # it had finished before
            break
        yield _kill_of(run, where, step)
    else:
        trial.go_on("killed")
    yield Trained(name="killed", seconds=time.monotonic() - clock)


def _kill_of(run: RunFolder, where: Where, step: int) -> Kill:
    """Say what a process that died has left behind."""
    rows = read_table(run.steps) if run.steps.is_file() else []
    done = max([int(row["tried"]) for row in rows[-1:]] + [step - 1 if where == "in a step" else 0])
    return Kill(where=where, step=done, resumed_from=_newest_step(run))


def _newest_step(run: RunFolder) -> int:
    """Return the step of the newest checkpoint by its name: one that was not finished has none."""
    return step_of(checkpoints(run.checkpoints)[0])


def _compared(trial: _Trial, name: str) -> Iterator[Difference]:
    return differences(trial.run("straight"), trial.run(name))
