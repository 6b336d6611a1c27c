"""The tables of a run: results.csv, steps.csv, predictions.csv and classification_report.json."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from halftone.base.crash import crash_point
from halftone.base.files import write_json, write_text
from halftone.base.tables import read_table
from halftone.data.labelled import Labelled
from halftone.loop.events import EpochDone, StepTaken, Unreadable, WarmupDecided
from halftone.run.events import BestSaved, CheckpointDue, Event, Judged, Started, Tested
from halftone.run.folder import RunFolder

RESULTS = (
    "epoch",
    "step",
    "seconds",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_top5",
    "val_precision",
    "val_recall",
    "val_f1",
    "lr",
    "images_per_second",
    "peak_memory_mb",
    "loss_scale",
    "skipped_steps",
    "train_accuracy",
    "val_calibration_error",
    "best",
    "train_seconds",
    "data_wait_seconds",
    "num_parts",
)
STEPS = (
    "tried",
    "step",
    "epoch",
    "batch",
    "loss",
    "lr",
    "grad_norm",
    "loss_scale",
    "skipped",
    "seconds",
    "update_ratio",
)
WARMUP = ("tried", "step", "action", "share", "reason")
_BUFFER = 64
"""Steps that are kept before their numbers are read from the device."""


class Tables:
    """Writes the tables. Rows reach the disk before a checkpoint that counts on them does."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._folder: RunFolder | None = None
        self._validation: Labelled | None = None
        self._results: TextIO | None = None
        self._steps: TextIO | None = None
        self._warmup: TextIO | None = None
        self._pending: list[StepTaken] = []
        self._unreadable: set[tuple[str, str]] = set()

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case StepTaken():
                self._pending.append(event)
                if len(self._pending) >= _BUFFER:
                    self._write_steps()
            case WarmupDecided():
                self._write_decision(event)
            case Started():
                self._start(event)
            case EpochDone():
                self._write_steps()
                assert self._results is not None
                row = ["" if value is None else str(value) for value in epoch_numbers(event).values()]
                csv.writer(self._results).writerow(row)
                self._results.flush()
            case CheckpointDue():
                self._write_steps()
                for file in (self._results, self._steps):
                    assert file is not None
                    crash_point()
                    file.flush()
                    os.fsync(file.fileno())
            case BestSaved():
                self._write_predictions(event)
            case Unreadable():
                self._write_unreadable(event)
            case Tested():
                assert self._folder is not None
                write_json(self._folder.test_report, event.evaluation.metrics.model_dump(mode="json"))
            case Judged(training, verdict) if training is not None:
                assert self._folder is not None
                values = training.model_dump(mode="json")
                write_json(self._folder.train_report, {"verdict": verdict.model_dump(mode="json"), **values})
            case _:
                pass

    def close(self) -> None:
        """Write what is left."""
        self._write_steps()
        for file in (self._results, self._steps, self._warmup):
            if file is not None:
                file.close()
        self._results = self._steps = self._warmup = None

    def _start(self, event: Started) -> None:
        self._folder, self._validation = event.folder, event.validation
        if event.folder.unreadable.is_file():
            self._unreadable = {(row["part"], row["name"]) for row in read_table(event.folder.unreadable)}
        self._results = _open(event.folder.results, RESULTS, "epoch", event.epoch)
        self._steps = _open(event.folder.steps, STEPS, "tried", event.tried)
        if event.folder.warmup.is_file():
            self._warmup = _open(event.folder.warmup, WARMUP, "tried", event.tried)

    def _write_steps(self) -> None:
        pending, self._pending = self._pending, []  # first, so that a failure does not write them twice
        if pending and self._steps is not None:
            csv.writer(self._steps).writerows(step_rows(pending))
            self._steps.flush()

    def _write_decision(self, event: WarmupDecided) -> None:
        """Write what an adaptive warmup decided; there is no such table for other warmups."""
        assert self._folder is not None
        if self._warmup is None:
            self._warmup = _open(self._folder.warmup, WARMUP, "tried", event.tried)
        row = (event.tried, event.step, event.action, repr(event.share), event.reason)
        csv.writer(self._warmup).writerow(row)
        self._warmup.flush()

    def _write_unreadable(self, event: Unreadable) -> None:
        """Write each image once, however often it was missed."""
        assert self._folder is not None
        key = (event.part, event.fault.name)
        if key in self._unreadable:
            return
        new = not self._folder.unreadable.is_file()
        with self._folder.unreadable.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(("part", "name", "reason"))
            writer.writerow((*key, event.fault.reason))
        self._unreadable.add(key)

    def _write_predictions(self, event: BestSaved) -> None:
        assert self._folder is not None
        assert self._validation is not None
        found, source = event.evaluation, self._validation
        labels = source.labels  # a subset gathers them at each call
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("index", "name", "label", "predicted", "confidence", "loss"))
        for index, guess, sure, loss in zip(found.indices, found.predicted, found.confidence, found.loss, strict=True):
            label = source.classes[int(labels[index])]
            writer.writerow(
                (index, source.name(int(index)), label, source.classes[guess], f"{sure:.6g}", f"{loss:.6g}")
            )
        write_text(self._folder.predictions, text.getvalue())
        report = {"epoch": event.epoch, **found.metrics.model_dump(mode="json")}
        write_json(self._folder.classification_report, report)


def _open(path: Path, columns: tuple[str, ...], counter: str, upto: int) -> TextIO:
    """Open a table for appending, keeping of an earlier part only the rows that the run still counts on."""
    rows = [row for row in read_table(path) if int(row[counter]) <= upto] if path.is_file() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path.open("a", newline="", encoding="utf-8")


def epoch_numbers(event: EpochDone) -> dict[str, float | None]:
    """Return the numbers of an epoch by their columns in results.csv."""
    found = event.evaluation.metrics
    values = (
        event.epoch,
        event.step,
        round(event.seconds, 3),
        event.train_loss,
        found.loss,
        found.accuracy,
        found.top5,
        found.precision,
        found.recall,
        found.f1,
        event.lr,
        round(event.images_per_second, 1),
        round(event.peak_memory_mb, 1),
        event.loss_scale,
        event.skipped_steps,
        event.train_accuracy,
        found.calibration_error,
        int(event.improved),
        round(event.train_seconds, 3),
        round(event.data_wait_seconds, 3),
        event.num_parts,
    )
    return dict(zip(RESULTS, values, strict=True))


def step_rows(events: list[StepTaken]) -> list[list[str]]:
    """Read the numbers of several steps from the device at once."""
    steps = _plain([event.step for event in events])
    rates = _plain([event.lr for event in events])
    applied = _plain([event.applied for event in events])
    losses = _numbers([event.loss for event in events])
    norms = _numbers([event.grad_norm for event in events])
    scales = _numbers([event.loss_scale for event in events])
    ratios = _numbers([event.update_ratio for event in events])
    return [
        [
            str(event.tried),
            str(step),
            str(event.epoch),
            str(event.batch),
            loss,
            str(rate),
            norm,
            scale,
            str(int(not took)),
            f"{event.seconds:.3f}",
            ratio,
        ]
        for event, step, rate, took, loss, norm, scale, ratio in zip(
            events, steps, rates, applied, losses, norms, scales, ratios, strict=True
        )
    ]


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return numbers for numbers of which some are tensors [] that are alike."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    read = iter(torch.stack(tensors).cpu().numpy() if tensors else ())
    return [next(read) if isinstance(value, Tensor) else value for value in values]


def _numbers(tensors: list[Tensor | None]) -> list[str]:
    """Return numbers as text, exactly, from tensors [] that are alike; an absent one is empty."""
    present = [tensor for tensor in tensors if tensor is not None]
    values = iter(torch.stack(present).float().tolist() if present else [])
    return ["" if tensor is None else repr(next(values)) for tensor in tensors]
