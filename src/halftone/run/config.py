"""What can be asked of the run itself: its folder, its log, its checkpoints, when it stops."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from halftone.base.lengths import Length, Span
from halftone.base.records import Record


def _words(value: Any) -> Any:
    """Read words with commas between them; each counts once."""
    if value in (None, False, "none", "off", ""):
        return ()
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    return tuple(dict.fromkeys(parts)) if isinstance(parts, list | tuple) else parts


class RunConfig(Record):
    """Where a run is kept, how often it is saved, and who is told of it."""

    shorthand = "name"

    root: Path = Path("runs")
    """The folder of all runs."""
    name: str | None = Field(default=None, pattern=r"^[^/\\\x00]+$", max_length=200)
    """The run's own folder below it; without it, one is made up and numbered."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next; the last epoch is always validated. The others have no accuracy, and
    cannot be the best."""
    checkpoint_every: Length = Span(1, "ep")
    """How often the state for resuming is saved, beside every five minutes: `1ep`, `500it`."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Save at least this often, in minutes."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints to keep."""
    grad_norm: bool = True
    """Measure the norm of the gradients in every step, for the log."""
    update_ratio_every: int = Field(default=10, ge=0)
    """Measure every so many steps how far an update moves the weights, as a share of their norm; 0 is never."""
    fit_images: int = Field(default=2000, ge=0)
    """Training images, at most as many as there are validation images, on which the best weights are measured at the
    end, without augmentation: the gap to the validation images says whether the network over-fits. 0 measures none."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    report: bool = True
    """Write plots and report.html at the end."""
    track: Annotated[tuple[Literal["wandb", "mlflow"], ...], BeforeValidator(_words)] = ()
    """Trackers that the numbers go to, beside the tables and TensorBoard: `wandb`, `mlflow`, or `wandb,mlflow`."""
    project: str | None = Field(default=None, min_length=1, max_length=128)
    """The project of W&B and the experiment of MLflow; without it, the one their own variables name, or `halftone`."""
    group: str | None = Field(default=None, min_length=1, max_length=128)
    """What the trackers file the run under, beside others of its kind."""
    tags: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], BeforeValidator(_words)] = ()
    """Words that the trackers mark the run with: `night,photos`."""
    tracking_uri: str | None = Field(default=None, min_length=1)
    """Where MLflow keeps runs, such as `sqlite:///mlflow.db`; without it, where MLflow itself would keep them."""
    track_every: int = Field(default=50, ge=1)
    """Steps between points of the step curves in TensorBoard and trackers; `steps.csv` has every step."""
    track_files: bool = False
    """Give the trackers the report, the confusion matrix and the best weights at the end, too."""

    @field_validator("tracking_uri")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        """Refuse a password, which would be written into the run's folder."""
        if value is not None and re.search(r"//[^/@]*:[^/@]*@", value):
            raise ValueError("a password does not belong here; MLflow reads MLFLOW_TRACKING_PASSWORD")
        return value


class StopConfig(Record):
    """Which epoch is the best, and when to stop early."""

    shorthand = "patience"

    metric: Literal["accuracy", "loss", "f1"] = "accuracy"
    """What makes an epoch the best, on the validation images."""
    patience: int | None = Field(default=None, ge=0)
    """Stop after this many epochs without a better one; without it, never."""
