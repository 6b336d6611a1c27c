"""Evaluation: every image once, exact on any number of them."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from halftone.base.errors import ResourceError
from halftone.data.augment.views import views_of
from halftone.data.config import Views
from halftone.data.feed import Feed
from halftone.data.survey import Fault
from halftone.metrics.report import Metrics, report
from halftone.metrics.tally import Scores, Tally
from halftone.optim.loss import main_output
from halftone.system.memory import give_back, ran_out, shortage


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
    at_once: int = 0
    """Images per pass in the end: fewer than in a batch if memory ran out."""
    shortage: str = ""
    """What was said when memory ran out; empty if it did not."""


def evaluate(model: nn.Module, data: EvaluationSet, *, at_once: int = 0) -> Generator[int, None, Evaluation]:
    """Evaluate a network that is in evaluation mode, in smaller passes from where memory runs out.

    Args:
        model: the network.
        data: the images.
        at_once: images per pass to begin with, if memory ran out before; 0 for whole batches.

    Yields:
        After each batch, how many images are done.

    Returns:
        An `Evaluation`, as the generator's value.

    Raises:
        ResourceError: memory ran out for a single image.
    """
    tally = Tally(len(data.classes), data.device)
    scores: list[Scores] = []
    seen = yield from _look_at_all(
        model, data, lambda logits, labels: scores.append(tally.add(logits, labels)), at_once=at_once
    )
    return Evaluation(
        report(tally, data.classes, views=data.views),
        seen.indices,
        _gather([part.predicted for part in scores]).astype(np.int64),
        _gather([part.confidence for part in scores]),
        _gather([part.loss for part in scores]),
        seen.faults,
        seen.at_once,
        seen.shortage,
    )


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What a network holds likely of each image that could be read."""

    indices: npt.NDArray[np.int64]
    """Of the images, [images]."""
    values: npt.NDArray[np.float32]
    """Of the classes, [images, classes]."""
    faults: tuple[Fault, ...]


def class_probabilities(model: nn.Module, data: EvaluationSet) -> Generator[int, None, Probabilities]:
    """Compute the probability of every class for each image, with a network in evaluation mode.

    Yields:
        After each batch, how many images are done.

    Returns:
        The `Probabilities`, as the generator's value.
    """
    values: list[npt.NDArray[np.float32]] = [np.empty((0, len(data.classes)), dtype=np.float32)]
    seen = yield from _look_at_all(
        model, data, lambda logits, _: values.append(logits.float().softmax(1).cpu().numpy())
    )
    return Probabilities(seen.indices, np.concatenate(values), seen.faults)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What became of all images; see `Evaluation`."""

    indices: npt.NDArray[np.int64]
    faults: tuple[Fault, ...]
    at_once: int
    shortage: str


def _look_at_all(
    model: nn.Module, data: EvaluationSet, take: Callable[[Tensor, Tensor], object], *, at_once: int = 0
) -> Generator[int, None, _Seen]:
    """Hand logits and labels of each batch to `take`, in the context of the network; yield how many are done."""
    at_once, said = at_once or data.batch_size, ""
    indices: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    faults: list[Fault] = []
    done = 0
    for batch in data.feed.batches(np.arange(data.num_images), data.batch_size):
        with torch.inference_mode(), data.compute():
            if len(batch.labels):
                logits, at_once, said = _logits(model, batch.images, data, at_once, said)
                take(logits, batch.labels)
        indices.append(batch.indices)
        faults += batch.faults
        done += len(batch.indices) + len(batch.faults)
        yield done
    return _Seen(np.concatenate(indices), tuple(faults), at_once, said)


def _logits(model: nn.Module, images: Tensor, data: EvaluationSet, at_once: int, said: str) -> tuple[Tensor, int, str]:
    """Return the logits of a batch, how many images passed at once, and what was said if memory ran out."""
    while True:
        try:
            parts = [mean_logits(model, part, data.prepare, data.views) for part in images.split(at_once)]
            return torch.cat(parts) if len(parts) > 1 else parts[0], at_once, said
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            said = shortage(error)
        # out here, the failed pass is gone with its error
        give_back(data.device)
        smaller = min(at_once, len(images)) // 2
        if not smaller:
            raise ResourceError(
                f"out of memory: not even a pass of one image fits: {said}",
                hint="a smaller --size or --model takes less",
            )
        at_once = smaller


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
