"""One run of a study: trained as a stream, ended early where it is poor, and read back from its folder."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from halftone.base.errors import Diverged, RecipeError, ResourceError
from halftone.base.files import read_json, write_json
from halftone.base.tables import read_table
from halftone.loop.events import EpochDone
from halftone.loop.stop import Metric
from halftone.metrics.report import Metrics
from halftone.run.checkpoint import checkpoints
from halftone.run.events import Event, Planned
from halftone.run.folder import RunFolder
from halftone.run.recipe import Recipe, merge
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.run.unattended import QUIET, can_go_on
from halftone.track.fan import told
from halftone.track.tables import Tables
from halftone.tune.config import TuneConfig
from halftone.tune.records import Outcome, Status, TrialEpoch, TrialStarted

IsPoor = Callable[[int, float, int], bool]
"""From an epoch, its value and the number of epochs to whether the run is to end."""
_OUTCOME = "trial.json"


def train_trial(
    outcome: Outcome,
    recipe: Recipe,
    root: Path,
    *,
    label: str,
    config: TuneConfig,
    is_poor: IsPoor,
    data: Any = None,
    stop: StopRequest | None = None,
) -> Generator[TrialStarted | TrialEpoch, None, Outcome]:
    """Train one run of a study, or go on with it where it was stopped or killed.

    Args:
        outcome: its number, folder and values; the rest is filled in.
        recipe: of the run.
        root: the folder of the study.
        label: what the events call it.
        config: says which epoch counts.
        is_poor: asked after each epoch.
        data: as for `training`.
        stop: as for `training`.

    Returns:
        What it came to, as the generator's value.

    Raises:
        Interrupted: it was asked to stop; everything is saved.
        HalftoneError: the data or a weight file is missing or broken, for this run as for any other.
    """
    folder, stop = RunFolder(root / outcome.folder), stop or StopRequest()
    resumed = can_go_on(folder.path)
    yield TrialStarted(label, outcome.values, resumed)
    if resumed:
        stream = resuming(folder.path, data=data, stop=stop)
    else:
        stream = training(_quiet(recipe, root, outcome.folder), data=data, stop=stop)
    status, fault = yield from _follow(stream, label, recipe.stop.metric, is_poor)
    found = read_outcome(outcome.replaced(status=status, fault=fault), folder, recipe.stop.metric, config)
    if folder.path.is_dir():
        write_json(folder.path / _OUTCOME, found.model_dump(mode="json"))
        for checkpoint in checkpoints(folder.checkpoints):  # for going on only, and the run has ended
            checkpoint.unlink()
    return found


def _follow(
    stream: Iterator[Event], label: str, metric: Metric, is_poor: IsPoor
) -> Generator[TrialEpoch, None, tuple[Status, str]]:
    """Follow a run to its end, or to where it is ended; return how it ended, and why if it did not finish."""
    num_epochs = 0
    try:
        with closing(stream), closing(told(stream, [Tables()])) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Planned):
                    num_epochs = -(-event.plan.total_steps // event.plan.batches_per_epoch)
                elif isinstance(event, EpochDone):
                    value = score(event.evaluation.metrics, metric)
                    yield TrialEpoch(label, event.epoch, num_epochs, value)
                    if value is not None and is_poor(event.epoch, value, num_epochs):
                        return "pruned", ""
    except Diverged as error:
        return "diverged", str(error)
    except (RecipeError, ResourceError) as error:
        return "failed", str(error)
    return "finished", ""


def score(metrics: Metrics, metric: Metric) -> float | None:
    """Return the metric that a study is about."""
    return {"accuracy": metrics.accuracy, "loss": metrics.loss, "f1": metrics.f1}[metric]


def read_outcome(ended: Outcome, folder: RunFolder, metric: Metric, config: TuneConfig) -> Outcome:
    """Read from its folder what a run came to; what it did before it was stopped counts, too.

    Args:
        ended: how it ended.
        folder: of the run.
        metric: that is judged.
        config: says which epoch counts.
    """
    rows = read_table(folder.results) if folder.results.is_file() else []
    if not rows:
        return ended
    progress = {"num_epochs": len(rows), "seconds": float(rows[-1]["seconds"])}
    if ended.status in ("diverged", "failed"):
        return ended.replaced(**progress)
    best = next((row for row in reversed(rows) if row["best"] == "1"), rows[-1])
    counted = best if config.judged == "best" and ended.status == "finished" else rows[-1]
    value, test = counted[f"val_{metric}"], None
    if ended.status == "finished" and folder.test_report.is_file():
        test = read_json(folder.test_report).get(metric)
    return ended.replaced(
        **progress, value=float(value) if value else None, epoch=int(counted["epoch"]), test_value=test
    )


def stored_outcome(folder: Path) -> Outcome | None:
    """Return what a run came to that has ended, from its folder."""
    place = folder / _OUTCOME
    return Outcome.parse(read_json(place), source=str(place)) if place.is_file() else None


def _quiet(recipe: Recipe, root: Path, name: str) -> Recipe:
    """Return the recipe of a run within a study: in its folder, and with nothing but what the study reads."""
    own = {**QUIET, "root": root, "name": name, "keep": 1}
    return Recipe.parse(merge(recipe.model_dump(exclude_unset=True), {"run": own}))
