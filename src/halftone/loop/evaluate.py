"""Evaluation: every image once, exact on any number of them."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from halftone.data.augment.views import views_of
from halftone.data.config import Views
from halftone.data.feed import Feed
from halftone.data.survey import Fault
from halftone.metrics.report import Metrics, report
from halftone.metrics.tally import Scores, Tally
from halftone.optim.loss import main_output


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Images to evaluate on, and how they reach the network."""

    feed: Feed
    num_images: int
    batch_size: int
    classes: tuple[str, ...]
    prepare: Callable[[Tensor], Tensor]
    """uint8 to the network's input."""
    compute: Callable[[], AbstractContextManager[Any]]
    """The context of the forward pass: its precision."""
    device: torch.device
    views: Views = 1
    """How often each image is looked at."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics, and what became of each image that could be read."""

    metrics: Metrics
    indices: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    faults: tuple[Fault, ...]


def evaluate(model: nn.Module, data: EvaluationSet) -> Generator[int, None, Evaluation]:
    """Evaluate a network that is in evaluation mode.

    Yields:
        After each batch, how many images are done.

    Returns:
        An `Evaluation`, as the generator's value.
    """
    tally = Tally(len(data.classes), data.device)
    scores: list[Scores] = []
    indices: list[npt.NDArray[np.int64]] = []
    faults: list[Fault] = []
    done = 0
    for batch in data.feed.batches(np.arange(data.num_images), data.batch_size):
        with torch.inference_mode(), data.compute():
            if len(batch.labels):
                logits = mean_logits(model, batch.images, data.prepare, data.views)
                scores.append(tally.add(logits, batch.labels))
        indices.append(batch.indices)
        faults += batch.faults
        done += len(batch.indices) + len(batch.faults)
        yield done
    return Evaluation(
        report(tally, data.classes, views=data.views),
        np.concatenate(indices) if indices else np.empty(0, dtype=np.int64),
        _gather([part.predicted for part in scores]).astype(np.int64),
        _gather([part.confidence for part in scores]),
        _gather([part.loss for part in scores]),
        tuple(faults),
    )


def mean_logits(model: nn.Module, images: Tensor, prepare: Callable[[Tensor], Tensor], views: Views) -> Tensor:
    """Return the logits of images, [batch, classes]: the weighted mean over their views, in fp32 if there are several.

    Args:
        model: in evaluation mode, within the context that it computes in.
        images: uint8 [batch, channels, height, width].
        prepare: uint8 to the network's input.
        views: how often to look.
    """
    if views == 1:
        return main_output(model(prepare(images)))
    logits = [main_output(model(prepare(view))).float() * weight for view, weight in views_of(images, views)]
    return torch.stack(logits).sum(0)


def nothing_seen(data: EvaluationSet) -> Evaluation:
    """Return the evaluation of no image, for an epoch that is not validated: its numbers are undefined."""
    empty = np.empty(0, dtype=np.int64)
    metrics = report(Tally(len(data.classes), data.device), data.classes, views=data.views)
    return Evaluation(metrics, empty, empty, empty.astype(np.float32), empty.astype(np.float32), ())


def conclude(evaluation: Generator[Any, None, Evaluation]) -> Evaluation:
    """Run an evaluation to its end without looking at its progress."""
    while True:
        try:
            next(evaluation)
        except StopIteration as end:
            return end.value


def _gather(parts: list[Tensor]) -> npt.NDArray[Any]:
    return torch.cat(parts).cpu().numpy() if parts else np.empty(0, dtype=np.float32)
