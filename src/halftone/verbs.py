"""The verbs: train, resume. Each runs the stream to its end with the usual listeners and returns the run.

They stand above the tracks and the reports; whoever wants less uses `halftone.training`, the stream itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from halftone.base.errors import ModelFileError
from halftone.metrics.report import Metrics
from halftone.report.history import History, read_history
from halftone.report.listener import Report
from halftone.run.events import Event, Finished, Planned, Started
from halftone.run.folder import RunFolder
from halftone.run.inference import Classifier
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.track.fan import Listener, told
from halftone.track.mlflow import MLflow
from halftone.track.notices import Notices
from halftone.track.tables import Tables
from halftone.track.tensorboard import TensorBoard
from halftone.track.wandb import WandB


@dataclass(frozen=True, slots=True)
class Run:
    """A run on disk: what it found, and the model it left."""

    path: Path

    @property
    def plan(self) -> Plan:
        """What was decided, and why."""
        return RunFolder(self.path).read_plan()

    @property
    def history(self) -> History:
        """All epochs and steps, as numbers."""
        return read_history(RunFolder(self.path))

    @property
    def metrics(self) -> Metrics:
        """Of the best weights on the validation images.

        Raises:
            ModelFileError: no epoch had usable metrics.
        """
        found = self.history.metrics
        if found is None:
            raise ModelFileError(f"the run {self.path} has no best epoch yet", hint="go on with it: --resume")
        return found

    def classifier(self, *, model: nn.Module | None = None) -> Classifier:
        """Return the best model, ready to predict; a network that was passed in Python is to be passed again."""
        return Classifier.load(self.path, model=model)


def train(
    recipe: Recipe,
    *,
    data: Any = None,
    model: nn.Module | None = None,
    listeners: Sequence[Listener] = (),
    stop: StopRequest | None = None,
) -> Run:
    """Train as a recipe says and leave everything in a run folder.

    Args:
        recipe: the wish.
        data: a data set, or a pair of training and validation, instead of the recipe's source.
        model: a network instead of the recipe's.
        listeners: who else is told; the tables, TensorBoard and the report listen anyway.
        stop: ends the run when its signal is set.

    Raises:
        HalftoneError: see its kinds.
    """
    return _run(training(recipe, data=data, model=model, stop=stop), listeners)


def resume(
    path: Path | str,
    *,
    workers: int | None = None,
    data: Any = None,
    model: nn.Module | None = None,
    listeners: Sequence[Listener] = (),
    stop: StopRequest | None = None,
) -> Run:
    """Go on with a run that was stopped or killed; see `train` for the arguments and `resuming` for the rest."""
    return _run(resuming(Path(path), workers=workers, data=data, model=model, stop=stop), listeners)


def _run(stream: Iterator[Event], listeners: Sequence[Listener]) -> Run:
    folder: RunFolder | None = None
    planned = next(iter(stream))
    assert isinstance(planned, Planned)
    for event in told(chain([planned], stream), [*usual_listeners(planned.plan), *listeners]):
        if isinstance(event, Started | Finished):
            folder = event.folder
    assert folder is not None
    return Run(folder.path)


def usual_listeners(plan: Plan) -> Iterator[Listener]:
    """Yield the listeners of every run: the tables first, from which the report and the trackers read.

    Raises:
        ResourceError: a tracker's package is missing.
    """
    wish = plan.settled.run
    yield Tables()
    yield Notices()
    if wish.tensorboard:
        yield TensorBoard()
    if wish.report:
        yield Report()
    if "wandb" in wish.track:
        yield WandB()
    if "mlflow" in wish.track:
        yield MLflow()
