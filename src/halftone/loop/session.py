"""Everything that a run works with, built and on the device. The loop takes it as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from halftone.data.augment.pipeline import Augment
from halftone.data.feed import Feed
from halftone.data.order import Order
from halftone.data.progressive import Sizes
from halftone.loop.evaluate import EvaluationSet
from halftone.loop.stop import Best
from halftone.optim.build import set_momentum, set_rates
from halftone.optim.loss import Criterion
from halftone.optim.penalty import L1Penalty
from halftone.optim.update_ratio import UpdateRatio
from halftone.precision.verbs import Precision
from halftone.schedule.schedule import Schedule
from halftone.weights.average import Average
from halftone.weights.freeze import Freezing


@dataclass(frozen=True, slots=True)
class Session:
    """The built things of one run."""

    device: torch.device
    model: nn.Module
    forward: Callable[[Tensor], Any]
    """The network in training: itself, or compiled."""
    freezing: Freezing
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
    sizes: Sizes
    """Of the training pictures by the step, as `augment` makes them."""
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
    validate_every: int
    """Epochs from one validation to the next; the last one is always validated."""
    count_correct: bool
    """Whether training accuracy means something: labels are not mixed."""
    update_ratio: UpdateRatio
    update_ratio_every: int
    """Steps from one measurement of an update to the next; 0 for none."""

    def enter_training(self) -> None:
        """Put the network into training mode, all but its frozen norms."""
        self.model.train()
        self.freezing.hold_still()

    def set_rates(self, step: int | Tensor) -> None:
        """Set rates and momentum for the update after `step` applied ones; a number on the device, [], stays there."""
        schedule = self.schedule
        if isinstance(step, Tensor):
            set_rates(self.optimizer, partial(schedule.share_at, step))
            return
        set_rates(self.optimizer, partial(schedule.share, step))
        momentum = schedule.momentum_at(step)
        if momentum is not None:
            set_momentum(self.optimizer, momentum)

    def evaluated(self) -> nn.Module:
        """Return the network that is evaluated and saved: the average where there is one."""
        return self.model if self.average is None else self.average.module
