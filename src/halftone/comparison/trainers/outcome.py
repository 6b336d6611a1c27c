"""What a run came to, read from its folder; the same for runs of a comparison and for any others."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halftone.base.errors import HalftoneError
from halftone.base.files import read_json, write_json
from halftone.base.records import Record, decided
from halftone.base.tables import read_table
from halftone.comparison.records import Digests, EpochPoint, Outcome
from halftone.report.history import History, read_history
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan

_FILE = "compared.json"
_ALWAYS = ("precision.mode", "optimizer.name", "optimizer.lr", "batch_size", "epochs")
"""Settled values that a reader wants in any comparison."""


class Watched(Record):
    """What is seen only while a run goes on; kept in its folder."""

    status: str = ""
    """Empty as long as it has not ended."""
    fault: str = ""
    startup_seconds: float | None = None
    process_mb: float | None = None
    """The largest memory of the process."""
    joules: float | None = None
    no_joules: str = ""
    """Why energy was not measured."""
    digests: Digests = Digests()

    def save(self, folder: Path) -> None:
        """Write it into the run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "Watched":
        """Read it from a run's folder; where it is not, nothing was seen."""
        file = folder / _FILE
        return cls.parse(read_json(file), source=str(file)) if file.is_file() else cls()


def read_outcome(path: Path, *, variant: str, seed: int, folder: str, settings: Sequence[str] = ()) -> Outcome:
    """Read what a run came to.

    Args:
        path: of the run's folder.
        variant: its name.
        seed: of the run.
        folder: the path, as the comparison is to hold it.
        settings: whose settled values are wanted, by their full names.
    """
    watched = Watched.load(path)
    status = watched.status or "finished"
    common: dict[str, Any] = {
        "variant": variant,
        "seed": seed,
        "folder": folder,
        "status": status,
        "fault": watched.fault,
        "startup_seconds": watched.startup_seconds,
        "joules": watched.joules,
        "digests": watched.digests,
    }
    try:
        history = read_history(RunFolder(path))
    except HalftoneError as error:  # it ended before it had a plan or a result
        if status == "finished":
            common |= {"status": "failed", "fault": str(error)}
        return Outcome(**common)
    numbers = _numbers(history, settings)
    if watched.process_mb is not None:
        numbers["peak_memory_mb"] = watched.process_mb
    return Outcome(**common, **numbers)


def _numbers(history: History, settings: Sequence[str]) -> dict[str, Any]:
    epochs, plan = history.epochs, history.plan
    speeds = epochs.get("images_per_second", [])
    spent = [_images_in(plan, epoch) / speed for epoch, speed in enumerate(speeds) if speed]
    accelerated = plan.settled.device.partition(":")[0] in ("cuda", "xpu")
    peak = max((value or 0.0 for value in epochs.get("peak_memory_mb", [])), default=0.0) or None
    points = tuple(_points(epochs))
    names = dict.fromkeys([*settings, *_ALWAYS])
    return {
        "metrics": history.metrics,
        "best_epoch": history.best_epoch,
        "epochs": points,
        "last_accuracy": points[-1].val_accuracy if points else None,
        "settled": {name: value for name in names if (value := _settled(plan.settled, name)) is not None},
        "train_seconds": sum(spent) if spent else None,
        "images_per_second": statistics.median(speed for speed in speeds if speed) if spent else None,
        "device_memory_mb" if accelerated else "peak_memory_mb": peak,
        "skipped_steps": int((epochs.get("skipped_steps") or [0])[-1] or 0),
    }


def _images_in(plan: Plan, epoch: int) -> int:
    """Return the images that pass through training in an epoch, from 0; the last one may be cut short."""
    steps = min(plan.batches_per_epoch, plan.total_steps - epoch * plan.batches_per_epoch)
    return steps * decided(plan.settled.batch_size)


def _points(epochs: dict[str, list[float | None]]) -> list[EpochPoint]:
    names = ("seconds", "train_loss", "val_loss", "val_accuracy", "lr", "loss_scale")
    empty: list[float | None] = [None] * len(epochs.get("epoch", []))
    columns = [epochs.get(name, empty) for name in names]
    return [
        EpochPoint(epoch=int(epoch or 0), **dict(zip(names, values, strict=True)))
        for epoch, *values in zip(epochs.get("epoch", []), *columns, strict=True)
    ]


def _settled(recipe: Any, name: str) -> str | None:
    """Return a settled value by its full name; None for what is no single setting, such as a recipe file."""
    found = recipe
    for part in name.split("."):
        if not hasattr(found, part):
            return None
        found = getattr(found, part)
    return str(found)


def read_predictions(path: Path) -> list[tuple[int, int]] | None:
    """Return label and prediction for each validation image by the best weights of a run; None if there are none."""
    file = RunFolder(path).predictions
    if not file.is_file():
        return None
    rows = sorted(read_table(file), key=lambda row: int(row["index"]))
    return [(int(row["label"]), int(row["predicted"])) for row in rows]
