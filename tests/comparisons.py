"""Outcomes of comparisons, made from numbers."""

from collections.abc import Sequence
from typing import Any

from halftone.comparison.records import EpochPoint, Outcome, Variant
from halftone.metrics.report import Metrics

FINE = 10**9
"""So many images that accuracies are as good as continuous."""


def variants(*values: str, setting: str = "precision") -> tuple[Variant, ...]:
    return tuple(Variant(name=f"{setting}={value}", changes={setting: value}) for value in values)


def metrics(accuracy: float | None, *, loss: float | None = None, num_images: int = FINE) -> Metrics:
    shares = dict.fromkeys(("accuracy", "precision", "recall", "f1", "calibration_error"), accuracy)
    return Metrics(num_images=num_images, loss=loss, top5=None, classes=(), confusion=(), **shares)


def outcome(variant: Variant, seed: int, accuracy: float | None = 0.9, **fields: Any) -> Outcome:
    num_images, loss = fields.pop("num_images", FINE), fields.pop("loss", None)
    values = {"status": "finished", "metrics": metrics(accuracy, loss=loss, num_images=num_images)} | fields
    if values["status"] != "finished":
        values["metrics"] = None
    return Outcome(variant=variant.name, seed=seed, folder=f"{variant.name}-{seed}", **values)


def paired(compared: Sequence[Variant], *differences: Sequence[float], **fields: Any) -> list[Outcome]:
    """Make finished outcomes: the baseline at 0.9, each other variant at its differences from it, by seed."""
    table = [[0.0] * len(differences[0]), *differences]
    return [
        outcome(variant, seed, 0.9 + row[seed], **fields)
        for seed in range(len(differences[0]))
        for variant, row in zip(compared, table, strict=True)
    ]


def epochs(*rows: tuple[float, float | None]) -> tuple[EpochPoint, ...]:
    """Make epochs from seconds and validation accuracy."""
    empty = dict.fromkeys(("train_loss", "val_loss", "lr", "loss_scale"))
    return tuple(
        EpochPoint(epoch=number, seconds=seconds, val_accuracy=accuracy, **empty)
        for number, (seconds, accuracy) in enumerate(rows, start=1)
    )
