"""The work that every contestant does: the same network, images, order, optimizer, rate and loss."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import Clock
from halftone.base.inputs import InputSpec
from halftone.data.order import epoch_order
from halftone.data.sources.arrays import from_arrays
from halftone.models.small import build_small
from halftone.run.plan.data import measure

CLASSES = 10
RATE = 0.01
MOMENTUM = 0.9
DECAY = 5e-4
SEED = 0


@dataclass(slots=True)
class Task:
    """One network on one epoch of random images, just long enough for the steps that are timed."""

    title: str
    network: nn.Module
    """Fresh; contestants train copies."""
    size: int
    """Height and width of the images in pixels."""
    channels: int
    batch_size: int
    warm: int
    """Steps that are not timed."""
    steps: int
    """Steps that are timed."""
    threads: int
    """Threads of torch, for everybody."""
    images: Tensor = field(init=False)
    """uint8 [images, height, width, channels]."""
    labels: Tensor = field(init=False)
    """int64 [images]."""
    scale: Tensor = field(init=False)
    """With `shift` turns a byte into a number of mean 0 and deviation 1, [1, channels, 1, 1]."""
    shift: Tensor = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.batch_size * self.batches, self.size, self.size, self.channels)
        images = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(len(images)) % CLASSES
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        zeros, ones = (0.0,) * self.channels, (1.0,) * self.channels
        spec = InputSpec(size=self.size, channels=self.channels, mean=zeros, std=ones)
        found = measure(from_arrays(images, labels), spec)  # as a plan does, so that the inputs are equal to the bit
        mean, std = (torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1) for values in found[:2])
        self.scale, self.shift = (1 / (255 * std)).float(), (-mean / std).float()

    @property
    def batches(self) -> int:
        """Batches in the epoch: one more than there are steps on the clock."""
        return self.warm + self.steps + 1

    def fresh_network(self) -> nn.Module:
        """Return a copy of the untrained network, channels last, as all of its inputs are."""
        return copy.deepcopy(self.network).to(memory_format=torch.channels_last).train()

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer as a user writes it."""
        parameters = network.parameters()
        return torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)

    def schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Return half a cosine over all steps."""
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.batches)

    def order(self) -> Tensor:
        """Return the order of the images, [images]."""
        return torch.from_numpy(epoch_order(len(self.labels), seed=SEED, epoch=0))

    def prepare(self, images: Tensor) -> Tensor:
        """Turn bytes [batch, height, width, channels] into the input [batch, channels, height, width]."""
        return images.permute(0, 3, 1, 2).float().mul_(self.scale).add_(self.shift)


class Batches:
    """The epoch for loops that want something to iterate over; it spares them the cost of a data loader."""

    def __init__(self, task: Task, clock: Clock) -> None:
        """Tick the clock whenever a batch is asked for."""
        self._task, self._clock = task, clock

    def __len__(self) -> int:
        return self._task.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        task = self._task
        for chosen in task.order().split(task.batch_size):
            self._clock.tick()
            yield task.prepare(task.images.index_select(0, chosen)), task.labels.index_select(0, chosen)


Loop = Callable[[Task, Clock], nn.Module]
"""Trains a fresh network for the epoch of a task, ticking the clock at each step, and returns it trained."""


def tiny(steps: int) -> Task:
    """Return a network so small that the loop around it shows.

    On one thread: there is nothing to share between two, and the waiting for each other would drown the rest.
    """
    torch.manual_seed(SEED)
    layers = [nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
    return Task(
        title="tiny: perceptron 64-128-128-10, batch 32",
        network=nn.Sequential(*layers),
        size=8,
        channels=1,
        batch_size=32,
        warm=50,
        steps=steps,
        threads=1,
    )


def resnet(steps: int, threads: int) -> Task:
    """Return a small residual network, where the loop should not be seen."""
    torch.manual_seed(SEED)
    network = build_small("cifar_resnet8", num_classes=CLASSES, channels=3, size=32, dropout=0.0)
    assert network is not None
    return Task(
        title="resnet: cifar_resnet8, 32 px, batch 64",
        network=network,
        size=32,
        channels=3,
        batch_size=64,
        warm=2,
        steps=steps,
        threads=threads,
    )
