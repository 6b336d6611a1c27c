"""What a run left in its folder, read back for figures and pages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halftone.base.errors import ModelFileError, RecipeError
from halftone.base.files import read_json
from halftone.base.tables import read_table
from halftone.metrics.report import Metrics
from halftone.metrics.verdict import EpochLosses, Verdict, judge
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan

Column = list[float | None]


@dataclass(frozen=True, slots=True)
class History:
    """One run, as numbers."""

    folder: RunFolder
    plan: Plan
    environment: dict[str, Any]
    epochs: dict[str, Column]
    """The columns of results.csv."""
    steps: dict[str, Column]
    """The columns of steps.csv."""
    metrics: Metrics | None
    """Of the best weights; None before the first best epoch."""
    training: Metrics | None
    """Of the best weights on training images; None if they were not measured."""
    best_epoch: int
    unreadable: list[dict[str, str]]
    """Images that were left out: part, name and reason."""
    notices: list[dict[str, str]]
    """What the run said beside its numbers: the steps tried before it, and the text."""
    decisions: list[dict[str, str]]
    """Of an adaptive warmup: tried, step, action, share and reason."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.path.name

    @property
    def verdict(self) -> Verdict:
        """Whether the network over-fits, under-fits or fits."""
        pairs = zip(self.epochs.get("train_loss", []), self.epochs.get("val_loss", []), strict=True)
        losses = [EpochLosses(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
        return judge(self.training, self.metrics, losses)


def read_history(folder: RunFolder) -> History:
    """Read a run's folder.

    Raises:
        ModelFileError: it is no run folder, or has no results yet.
    """
    plan = folder.read_plan()
    metrics, best_epoch = None, 0
    if folder.classification_report.is_file():
        metrics, beside = _read_metrics(folder.classification_report, "epoch")
        best_epoch = beside if isinstance(beside, int) else 0
    training = None
    if folder.train_report.is_file():
        training, _ = _read_metrics(folder.train_report, "verdict")
    return History(
        folder,
        plan,
        read_json(folder.environment) if folder.environment.is_file() else {},
        _read_columns(folder.results),
        _read_columns(folder.steps),
        metrics,
        training,
        best_epoch,
        read_table(folder.unreadable) if folder.unreadable.is_file() else [],
        read_table(folder.notices) if folder.notices.is_file() else [],
        read_table(folder.warmup) if folder.warmup.is_file() else [],
    )


def _read_metrics(path: Path, beside: str) -> tuple[Metrics, Any]:
    """Return the metrics in a file, and what stands beside them under a name."""
    values = read_json(path)
    other = values.pop(beside, None)
    try:
        return Metrics.parse(values, source=str(path)), other
    except RecipeError as error:
        raise ModelFileError(f"damaged: {error}", hint="restore it, or train again") from error


def _read_columns(path: Path) -> dict[str, Column]:
    rows = read_table(path)
    names = rows[0].keys() if rows else ()
    try:
        return {name: [float(row[name]) if row[name] else None for row in rows] for name in names}
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: {error}", hint="restore it, or train again") from error
