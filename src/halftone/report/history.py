"""What a run left in its folder, read back for figures and pages."""

from dataclasses import dataclass
from typing import Any

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
        values = read_json(folder.classification_report)
        best_epoch = int(values.pop("epoch", 0))
        metrics = Metrics.parse(values, source=str(folder.classification_report))
    training = None
    if folder.train_report.is_file():
        values = read_json(folder.train_report)
        values.pop("verdict", None)
        training = Metrics.parse(values, source=str(folder.train_report))
    return History(
        folder,
        plan,
        read_json(folder.environment) if folder.environment.is_file() else {},
        _columns(read_table(folder.results)),
        _columns(read_table(folder.steps)),
        metrics,
        training,
        best_epoch,
        read_table(folder.unreadable) if folder.unreadable.is_file() else [],
        read_table(folder.warmup) if folder.warmup.is_file() else [],
    )


def _columns(rows: list[dict[str, str]]) -> dict[str, Column]:
    names = rows[0].keys() if rows else ()
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in names}
