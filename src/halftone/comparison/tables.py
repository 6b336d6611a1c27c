"""The numbers of a comparison as files: runs.csv for tables and plots, verdict.json for programs."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from halftone.base.files import write_text
from halftone.comparison.records import Comparison, Outcome
from halftone.comparison.verdicts.pairing import measured, seconds_to

Value = str | int | float | None

OF_RUNS: Mapping[str, Callable[[Outcome], Value]] = {
    "variant": lambda run: run.variant,
    "seed": lambda run: run.seed,
    "status": lambda run: run.status,
    "fault": lambda run: run.fault,
    "num_epochs": lambda run: len(run.epochs),
    "best_epoch": lambda run: run.best_epoch,
    "val_loss": lambda run: measured(run, "loss"),
    "val_accuracy": lambda run: measured(run, "accuracy"),
    "val_top5": lambda run: None if run.metrics is None else run.metrics.top5,
    "val_precision": lambda run: measured(run, "precision"),
    "val_recall": lambda run: measured(run, "recall"),
    "val_f1": lambda run: measured(run, "f1"),
    "val_calibration_error": lambda run: measured(run, "calibration_error"),
    "last_val_accuracy": lambda run: run.last_accuracy,
    "startup_seconds": lambda run: run.startup_seconds,
    "train_seconds": lambda run: run.train_seconds,
    "images_per_second": lambda run: run.images_per_second,
    "peak_memory_mb": lambda run: run.peak_memory_mb,
    "device_memory_mb": lambda run: run.device_memory_mb,
    "joules": lambda run: run.joules,
    "skipped_steps": lambda run: run.skipped_steps,
    "weights_digest": lambda run: run.digests.weights,
    "order_digest": lambda run: run.digests.order,
    "images_digest": lambda run: run.digests.images,
    "folder": lambda run: run.folder,
}
"""Columns of runs.csv, without those of the settings and the target."""


def write_runs(comparison: Comparison, path: Path) -> None:
    """Write runs.csv: a row per run; settings as they were asked and as the plan settled them; unknown is empty."""
    changes = {variant.name: variant.changes for variant in comparison.variants}
    asked = list(dict.fromkeys(name for variant in comparison.variants for name in variant.changes))
    settled = list(dict.fromkeys(name for run in comparison.outcomes for name in run.settled))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*OF_RUNS, "seconds_to_target", *(f"asked.{name}" for name in asked), *(f"settled.{name}" for name in settled)]
    )
    for run in comparison.outcomes:
        asked_here = changes.get(run.variant, {})
        values: list[Value] = [read(run) for read in OF_RUNS.values()]
        values.append(None if comparison.target is None else seconds_to(comparison.target, run))
        values += [asked_here.get(name) for name in asked]
        values += [run.settled.get(name) for name in settled]
        writer.writerow(["" if value is None else value for value in values])
    write_text(path, text.getvalue())


def write_verdict(comparison: Comparison, path: Path) -> None:
    """Write verdict.json: what people look for first, indented; then the runs, one a line."""
    head = json.dumps(comparison.model_dump(exclude={"outcomes"}), indent=2, allow_nan=False)
    runs = ",\n    ".join(json.dumps(run.model_dump(), allow_nan=False) for run in comparison.outcomes)
    write_text(path, head.removesuffix("\n}") + f',\n  "outcomes": [\n    {runs}\n  ]\n}}\n')
