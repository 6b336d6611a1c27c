"""What a run says: the loop's events, and those around them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from halftone.data.labelled import Labelled
from halftone.loop.evaluate import Evaluation
from halftone.loop.events import (
    BatchDivided,
    BatchLeftOut,
    EpochDone,
    Evaluating,
    EvaluationDivided,
    GradientsVanished,
    LayersHalted,
    LayersThawed,
    LoopEvent,
    PicturesGrown,
    RateLowered,
    StepTaken,
    StoppedEarly,
    Unreadable,
    WarmupDecided,
)
from halftone.metrics.report import Metrics
from halftone.metrics.verdict import Verdict
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan

__all__ = [
    "BatchDivided",
    "BatchLeftOut",
    "BestSaved",
    "CheckpointDue",
    "CheckpointSaved",
    "EpochDone",
    "Evaluating",
    "EvaluationDivided",
    "Event",
    "Finished",
    "FirstBatch",
    "GradientsVanished",
    "Judged",
    "LayersHalted",
    "LayersThawed",
    "LoopEvent",
    "Notice",
    "PicturesGrown",
    "Planned",
    "RateLowered",
    "Started",
    "StepTaken",
    "StoppedEarly",
    "Tested",
    "Unreadable",
    "WarmupDecided",
]


@dataclass(slots=True)
class Planned:
    """Everything is decided; nothing was written yet."""

    plan: Plan


@dataclass(slots=True)
class Started:
    """The folder is there and training begins, or goes on."""

    plan: Plan
    folder: RunFolder
    tried: int
    """Steps that were done before: 0 for a new run."""
    epoch: int
    """Epochs that were done before."""
    validation: Labelled
    """The validation images, for those who want to show some."""
    weights_digest: Callable[[], str]
    """Makes a short hash of all parameters and buffers as they stand when it is called."""
    order_digest: Callable[[], str]
    """Makes a short hash of the order of the images in the epoch to come."""


@dataclass(slots=True)
class Notice:
    """Something a person should know; never an error."""

    text: str


@dataclass(slots=True)
class FirstBatch:
    """What the network really sees: a batch after augmentation, before normalisation."""

    images: Tensor
    """uint8 [batch, channels, height, width] on the CPU."""
    labels: Tensor
    """[batch]."""


@dataclass(slots=True)
class CheckpointDue:
    """A checkpoint will be saved next: whoever keeps a log brings it up to date now."""

    tried: int


@dataclass(slots=True)
class CheckpointSaved:
    """The state is safe on disk."""

    path: Path
    tried: int


@dataclass(slots=True)
class BestSaved:
    """The weights of the best epoch so far are on disk."""

    path: Path
    epoch: int
    evaluation: Evaluation


@dataclass(slots=True)
class Tested:
    """The best weights were evaluated on the part that was kept for the end."""

    evaluation: Evaluation


@dataclass(slots=True)
class Judged:
    """The run was judged: whether its best weights over-fit, under-fit or fit."""

    training: Metrics | None
    """On training images without augmentation; None if they were not measured."""
    verdict: Verdict


@dataclass(slots=True)
class Finished:
    """The run is over."""

    folder: RunFolder
    best_epoch: int
    """0 if no epoch had usable metrics."""
    seconds: float
    """Wall time of the whole run."""


Event = (
    LoopEvent
    | Planned
    | Started
    | Notice
    | FirstBatch
    | CheckpointDue
    | CheckpointSaved
    | BestSaved
    | Tested
    | Judged
    | Finished
)
