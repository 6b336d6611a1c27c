"""Everything that a run works with, built and on the device. The loop takes it as it is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halftone.data.augment.pipeline import Augment
from halftone.data.feed import Feed
from halftone.data.order import Order
from halftone.loop.evaluate import EvaluationSet
from halftone.loop.stop import Best
from halftone.optim.loss import Criterion
from halftone.optim.penalty import L1Penalty
from halftone.precision.verbs import Precision
from halftone.schedule.build import Schedule
from halftone.weights.average import Average
from halftone.weights.freeze import hold_still


@dataclass(frozen=True, slots=True)
class Session:
    """The built things of one run."""

    device: torch.device
    model: nn.Module
    frozen_norms: tuple[nn.Module, ...]
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    precision: Precision
    schedule: Schedule
    penalty: L1Penalty | None
    average: Average | None
    best: Best
    feed: Feed
    order: Callable[[int], Order]
    """The order of the training images in an epoch, from 0."""
    augment: Augment
    prepare: Callable[[Tensor], Tensor]
    """The memory layout that the network works in."""
    validation: EvaluationSet
    batch_size: int
    parts: int
    """Forward passes that add up to a batch."""
    batches_per_epoch: int
    epochs: int
    max_batches: int
    """Where the run ends, possibly within an epoch."""
    count_correct: bool
    """Whether training accuracy means something: labels are not mixed."""

    def enter_training(self) -> None:
        """Put the network into training mode, all but its frozen norms."""
        self.model.train()
        hold_still(self.frozen_norms)

    def evaluated(self) -> nn.Module:
        """Return the network that is evaluated and saved: the average where there is one."""
        return self.model if self.average is None else self.average.module
