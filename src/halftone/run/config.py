"""What can be asked of the run itself: its folder, its log, its checkpoints, when it stops."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from halftone.base.lengths import Length, Span
from halftone.base.records import Record


class RunConfig(Record):
    """Where a run is kept, and how often it is saved."""

    shorthand = "name"

    root: Path = Path("runs")
    """The folder of all runs."""
    name: str | None = Field(default=None, pattern=r"^[^/\\\x00]+$", max_length=200)
    """The run's own folder below it; without it, one is made up and numbered."""
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


class StopConfig(Record):
    """Which epoch is the best, and when to stop early."""

    shorthand = "patience"

    metric: Literal["accuracy", "loss", "f1"] = "accuracy"
    """What makes an epoch the best, on the validation images."""
    patience: int | None = Field(default=None, ge=0)
    """Stop after this many epochs without a better one; without it, never."""
