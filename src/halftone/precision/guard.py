"""The guard over buffers: what a forward pass changed is put back when its step is skipped.

Skipping an update protects the parameters only. Batch normalisation takes its running statistics in the forward
pass, so one batch with an infinite activation spoils them for good, however soundly its step was skipped.
"""

import torch
from torch import Tensor, nn

from halftone.system.packed import Packed, by_type


class BufferGuard:
    """Remembers the buffers of a network as they were before the first forward pass of a step."""

    def __init__(self, model: nn.Module) -> None:
        """Watch all buffers, those that are not saved with the network included."""
        self._model = model
        self._places = [(layer._buffers, name) for layer in model.modules() for name in layer._buffers]
        self._buffers: list[Tensor | None] = []
        self._copies: list[tuple[list[Tensor], Packed]] = []
        """Buffers and their copies, by type, so that a GPU copies all of a type at once."""
        self._spare: list[Packed] = []
        """Room for as much again, where the device chooses between the copies and what stands there now."""
        self._remembers = False

    def remember(self) -> None:
        """Copy the buffers, once per step; a network in evaluation mode changes none."""
        if self._remembers or not self._places or not self._model.training:
            return
        buffers = [owner[name] for owner, name in self._places]
        with torch.no_grad():
            if list(map(id, buffers)) != list(map(id, self._buffers)):
                self._buffers = buffers
                self._copies, self._spare = [(group, Packed(group)) for group in by_type(buffers)], []
            for group, copies in self._copies:
                copies.take(group)
        self._remembers = True

    @torch.no_grad()
    def put_back(self, *, unless: bool | Tensor = False) -> None:
        """Give the buffers the values that were remembered; also those that a layer has replaced meanwhile.

        Args:
            unless: the step was applied; a tensor [] is not waited for, but where a layer has replaced a buffer by
                one of another shape or type.
        """
        if not self._remembers:
            return
        if isinstance(unless, Tensor):
            now = [owner[name] for owner, name in self._places]
            if all(map(_alike, now, self._buffers)):
                self._choose(now, unless)
                return
        if not unless:
            for (owner, name), buffer in zip(self._places, self._buffers, strict=True):
                owner[name] = buffer
            for group, copies in self._copies:
                copies.give(group)

    def _choose(self, now: list[Tensor | None], applied: Tensor) -> None:
        """Leave the buffers as they are now where a flag, [], says so, and put them back otherwise."""
        for at, ((owner, name), buffer) in enumerate(zip(self._places, self._buffers, strict=True)):
            if (found := now[at]) is not None and found is not buffer:  # it may be a view of anything: leave that alone
                owner[name] = now[at] = found.clone()
        self._spare = self._spare or [Packed(group) for group, _ in self._copies]
        for group, (_, copies), spare in zip(by_type(now), self._copies, self._spare, strict=True):
            torch.where(applied, spare.take(group), copies.flat, out=spare.flat)
            spare.give(group)

    def forget(self) -> None:
        """Begin the next step."""
        self._remembers = False


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
