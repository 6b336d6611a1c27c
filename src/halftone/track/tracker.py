"""What W&B and MLflow have in common: a tracker follows the tables.

A point is sent when a checkpoint has made it certain, and it is read from results.csv and steps.csv. So a tracker
holds what the tables hold. A run that goes on after a kill sends each point once, and what was not sent before, because
the process or the network was gone, is sent then.
"""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from halftone.base.files import read_json, write_json
from halftone.base.records import Record
from halftone.base.tables import read_table
from halftone.metrics.report import Metrics
from halftone.run.events import CheckpointSaved, Event, Finished, Notice, Started, Tested
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan

_OF_STEPS = ("loss", "lr", "grad_norm", "loss_scale", "update_ratio")
"""Columns of steps.csv that are sent."""
_OF_BEST = ("train_", "val_")
"""How the columns of results.csv begin that tell of the best epoch."""
_OF_TEST = ("loss", "accuracy", "top5", "precision", "recall", "f1", "calibration_error")


def sampled(tried: int, every: int) -> bool:
    """Say whether a step is a point of the step curves: the first, and each whole number of `every`."""
    return tried == 1 or tried % every == 0


@dataclass(frozen=True, slots=True)
class Point:
    """The numbers of one step; at the end of an epoch, those of the epoch, too."""

    tried: int
    seconds: float
    """Time of the run so far."""
    numbers: dict[str, float]


class Kept(Record):
    """What the run's folder keeps of a tracker, in trackers.json."""

    run: str
    """The tracker's own name of the run."""
    place: str = ""
    """Where the tracker keeps it, if that is on this machine."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that a tracker has opened."""

    kept: Kept
    last_step: int
    """The last step of which the tracker already has points."""
    text: str
    """What a person should know of it."""


class Tracker(ABC):
    """Follows the tables of a run; they are to be told before it is."""

    name: ClassVar[str]
    """By which a recipe asks for it."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._points: _Points | None = None
        self._sent = 0  # the last step of which points were sent
        self._tested: dict[str, float] = {}
        self._with_files = False
        self._whole = True  # False while an event is heard: it stays so if that fails

    @abstractmethod
    def open(self, started: Started, kept: Kept | None) -> Opened:
        """Open a run for this one: the one that was kept, if the tracker still has it, else a new one."""

    @abstractmethod
    def log(self, points: list[Point]) -> None:
        """Send points, in the order of their steps, none of which was sent before."""

    @abstractmethod
    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Send the numbers that stand for the whole run."""

    @abstractmethod
    def store(self, files: list[Path]) -> None:
        """Send files."""

    @abstractmethod
    def leave(self, *, finished: bool) -> str:
        """Close the run; return what a person should know. Safe to call when nothing is open."""

    def hear(self, event: Event) -> Notice | None:
        """Take one event."""
        text = ""
        self._whole = False
        match event:
            case Started():
                text = self._start(event)
            case CheckpointSaved():
                self._send()
            case Tested():
                self._tested = tested_numbers(event.evaluation.metrics)
            case Finished():
                text = self._finish(event)
            case _:
                pass
        self._whole = True
        return Notice(text) if text else None

    def close(self) -> None:
        """Send what no checkpoint covers, so that it shows how the run ended; then let go of it."""
        try:
            if self._whole and self._points is not None:
                self._send()
        finally:
            self.leave(finished=False)

    def _start(self, event: Started) -> str:
        wish, place = event.plan.settled.run, event.folder.path / "trackers.json"
        others = read_json(place) if place.is_file() else {}
        kept = Kept.parse(others[self.name], source="trackers.json") if self.name in others else None
        opened = self.open(event, kept)
        write_json(place, {**others, self.name: opened.kept.model_dump(mode="json")})
        self._sent, self._with_files = opened.last_step, wish.track_files
        self._points = _Points(event.folder, wish.track_every)
        self._send()
        return opened.text

    def _send(self) -> None:
        assert self._points is not None
        points = [point for point in self._points.new() if point.tried > self._sent]
        if points:
            self.log(points)
            self._sent = points[-1].tried

    def _finish(self, event: Finished) -> str:
        self._send()
        self._points = None
        self.summarise(best_numbers(event.folder, event.best_epoch) | self._tested)
        if self._with_files:
            pictures = (event.folder.path / "confusion_matrix.png", event.folder.report)
            files = (event.folder.recipe, event.folder.plan, *pictures, event.folder.best)
            self.store([file for file in files if file.is_file()])
        return self.leave(finished=True)


class _Points:
    """Reads on in the tables from where it stood."""

    def __init__(self, folder: RunFolder, every: int) -> None:
        self._epochs, self._steps = _Rows(folder.results), _Rows(folder.steps)
        self._every = every

    def new(self) -> list[Point]:
        """Return the points of the rows that were added, in order."""
        found: dict[int, Point] = {}
        for row in self._steps.new():
            tried = int(row["tried"])
            if sampled(tried, self._every):
                numbers = {f"steps/{name}": float(row[name]) for name in _OF_STEPS if row[name]}
                numbers["steps/skipped_steps"] = tried - int(row["step"])
                found[tried] = Point(tried, float(row["seconds"]), numbers)
        for row in self._epochs.new():
            tried = int(row["step"]) + int(row["skipped_steps"])
            numbers = {name: float(value) for name, value in row.items() if value}
            before = found[tried].numbers if tried in found else {}
            found[tried] = Point(tried, float(row["seconds"]), before | numbers)
        return [found[tried] for tried in sorted(found)]


class _Rows:
    """Reads a table that grows; its writer adds whole rows only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._upto = 0
        self._columns: list[str] = []

    def new(self) -> list[dict[str, str]]:
        """Return the rows that were added since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._upto)
            added = file.read()
        self._upto += len(added)
        rows = list(csv.reader(io.StringIO(added.decode(), newline="")))
        if not self._columns and rows:
            self._columns = rows.pop(0)
        return [dict(zip(self._columns, row, strict=True)) for row in rows]


def best_numbers(folder: RunFolder, best_epoch: int) -> dict[str, float]:
    """Return the numbers of the best epoch by the columns of results.csv, each with `best_` before it."""
    row = next((row for row in read_table(folder.results) if int(row["epoch"]) == best_epoch), None)
    if row is None:
        return {}
    numbers = {f"best_{name}": float(value) for name, value in row.items() if value and name.startswith(_OF_BEST)}
    return {"best_epoch": best_epoch, **numbers}


def tested_numbers(metrics: Metrics) -> dict[str, float]:
    """Return the numbers of the test part, each with `test_` before it."""
    values = {f"test_{name}": getattr(metrics, name) for name in _OF_TEST}
    return {name: value for name, value in values.items() if value is not None}


def description(plan: Plan) -> dict[str, Any]:
    """Return what a tracker shows as the settings of a run: as settled, as asked, and what the plan found."""
    facts = {
        "halftone": plan.halftone,
        "device": plan.device,
        "weights": plan.weights,
        "num_parameters": plan.model.num_parameters,
        "num_classes": len(plan.data.classes),
        "num_train": plan.data.num_train,
        "num_validation": plan.data.num_validation,
        "batches_per_epoch": plan.batches_per_epoch,
        "total_steps": plan.total_steps,
        "warmup_steps": plan.warmup_steps,
    }
    asked = plan.asked.model_dump(mode="json", exclude_unset=True)
    return {**plan.settled.model_dump(mode="json"), "asked": asked, "plan": facts}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a tree by their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
