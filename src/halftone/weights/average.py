"""An exponential moving average of the weights."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from halftone.system.packed import Packed

_PORTION = 2**24
"""Numbers that are averaged at once where the device decides: each portion needs room for two copies."""

_HALVES = (torch.float16, torch.bfloat16)


class Average:
    """A second network whose weights follow those of the first, smoothed.

    In step t the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the random start is forgotten
    quickly (the rule of TensorFlow's ExponentialMovingAverage). Floating-point buffers, such as the statistics
    of batch normalisation, are averaged, too; counters are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from a copy of the network."""
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        for parameter in self.module.parameters():
            if parameter.dtype in _HALVES:  # a thousandth of a way would be rounded away
                parameter.data = parameter.data.float()
        self.decay = decay
        self._pairs = list(_pairs(self.module, module))
        self._averages = [own for own, _ in self._pairs if own.is_floating_point()]
        self._weights = [other for own, other in self._pairs if own.is_floating_point()]
        self._mixed = any(own.dtype != other.dtype for own, other in self._pairs)
        self._copied = [pair for pair in self._pairs if not pair[0].is_floating_point()]
        self._num_updates: int | Tensor = 0
        self._portions: list[_Portion] = []

    @property
    def num_updates(self) -> int:
        """The steps that were followed."""
        return int(self._num_updates)

    @torch.no_grad()
    def update(self, applied: bool | Tensor = True) -> None:
        """Follow the network by one step if it was applied; nothing changes otherwise, to the bit.

        Args:
            applied: a tensor [] on the device is not waited for.
        """
        if isinstance(applied, Tensor):
            self._update_unseen(applied)
        elif applied:
            number = self.num_updates
            keep = min(self.decay, (1 + number) / (10 + number))
            self._num_updates = number + 1
            weights = self._weights
            if self._mixed:
                weights = [other.to(own.dtype) for own, other in zip(self._averages, weights, strict=True)]
            torch._foreach_lerp_(self._averages, weights, 1 - keep)
            for own, other in self._copied:
                own.copy_(other)

    def _update_unseen(self, applied: Tensor) -> None:
        number = self._num_updates
        if not isinstance(number, Tensor):
            number = torch.full((), number, dtype=torch.float64, device=applied.device)
            self._portions = self._portions or list(_portions(self._pairs))
        keep = ((1 + number) / (10 + number)).clamp_(max=self.decay)
        self._num_updates = number + applied
        for portion in self._portions:
            portion.follow(1 - keep, applied)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {"module": self.module.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; the tensors are copied in place."""
        self.module.load_state_dict(state["module"])
        self._num_updates = int(state["num_updates"])


class _Portion:
    """Tensors of one type whose averages the device updates, or leaves as they are, all at once."""

    def __init__(self, averages: list[Tensor], weights: list[Tensor], rooms: tuple[Tensor, Tensor]) -> None:
        self._averages, self._weights = averages, weights
        self._old, self._new = (Packed(averages, room) for room in rooms)

    def follow(self, share: Tensor, applied: Tensor) -> None:
        """Move towards the weights by a share, [], where a flag, [], says so."""
        old, new = self._old.take(self._averages), self._new.take(self._weights)
        moved = new
        if old.is_floating_point():
            wide = torch.promote_types(old.dtype, torch.float32)  # as the share is where it is a number
            moved = torch.lerp(old.to(wide), new.to(wide), share.to(wide)).to(old.dtype)
        torch.where(applied, moved, old, out=new)
        self._new.give(self._averages)


def _portions(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[_Portion]:
    """Divide tensors by type into portions of limited size; those of one type share the room that they need."""
    for dtype in {own.dtype: None for own, _ in pairs}:
        parts: dict[int, list[tuple[Tensor, Tensor]]] = {}
        total = 0
        for own, other in pairs:
            if own.dtype == dtype:
                parts.setdefault(total // _PORTION, []).append((own, other))
                total += own.numel()
        size = max(sum(own.numel() for own, _ in part) for part in parts.values())
        rooms = pairs[0][0].new_empty(size, dtype=dtype), pairs[0][0].new_empty(size, dtype=dtype)
        for part in parts.values():
            yield _Portion([own for own, _ in part], [other for _, other in part], rooms)


def _pairs(average: nn.Module, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tensors of both networks side by side, those that have several names once."""
    others = module.state_dict()
    seen: set[int] = set()
    for name, own in average.state_dict().items():
        if own.data_ptr() not in seen or not own.numel():
            seen.add(own.data_ptr())
            yield own, others[name]
