"""A small network, its data, and all of its bits, for the tests of precision."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.precision.verbs import Precision


def network() -> nn.Module:
    """A network with batch normalisation and dropout for pictures [batch, 2, 4, 4]."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 3)
    )


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, **options)


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(8, 2, 4, 4, generator=random), torch.randint(3, (8,), generator=random)


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    """Return all parameters, buffers and states of the optimizer, bit by bit."""
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [tensor.detach().numpy().tobytes() for tensor in (*model.state_dict().values(), *states)]


def train_step(precision: Precision, model: nn.Module, images: Tensor, labels: Tensor) -> bool:
    with precision.forward():
        loss = F.cross_entropy(model(images), labels)
    precision.backward(loss)
    return precision.step().applied
