"""An exponential moving average of the weights."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """A second network whose weights follow those of the first, smoothed.

    In step t the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the random start is forgotten
    quickly (the rule of TensorFlow's ExponentialMovingAverage). Floating-point buffers, such as the statistics
    of batch normalisation, are averaged, too; counters are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from a copy of the network."""
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.num_updates = 0
        pairs = list(_pairs(self.module, module))
        self._averages = [own for own, _ in pairs if own.is_floating_point()]
        self._weights = [other for own, other in pairs if own.is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow the network by one step."""
        keep = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(self._averages, self._weights, 1 - keep)
        for own, other in self._copied:
            own.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {"module": self.module.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; the tensors are copied in place."""
        self.module.load_state_dict(state["module"])
        self.num_updates = int(state["num_updates"])


def _pairs(average: nn.Module, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tensors of both networks side by side, those that have several names once."""
    others = module.state_dict()
    seen: set[int] = set()
    for name, own in average.state_dict().items():
        if own.data_ptr() not in seen or not own.numel():
            seen.add(own.data_ptr())
            yield own, others[name]
