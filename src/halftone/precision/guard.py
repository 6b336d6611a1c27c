"""The guard over buffers: what a forward pass changed is put back when its step is skipped.

Skipping an update protects the parameters only. Batch normalisation takes its running statistics in the forward
pass, so one batch with an infinite activation spoils them for good, however soundly its step was skipped.
"""

import torch
from torch import Tensor, nn


class BufferGuard:
    """Remembers the buffers of a network as they were before the first forward pass of a step."""

    def __init__(self, model: nn.Module) -> None:
        """Watch all buffers, those that are not saved with the network included."""
        self._model = model
        self._places = [(layer._buffers, name) for layer in model.modules() for name in layer._buffers]
        self._buffers: list[Tensor | None] = []
        self._copies: list[tuple[list[Tensor], list[Tensor]]] = []
        """Buffers and their copies, by type, so that a GPU copies all of a type at once."""
        self._remembers = False

    def remember(self) -> None:
        """Copy the buffers, once per step; a network in evaluation mode changes none."""
        if self._remembers or not self._places or not self._model.training:
            return
        buffers = [owner[name] for owner, name in self._places]
        with torch.no_grad():
            if list(map(id, buffers)) != list(map(id, self._buffers)):
                self._buffers = buffers
                self._copies = [(group, [buffer.clone() for buffer in group]) for group in _by_type(buffers)]
            else:
                for group, copies in self._copies:
                    torch._foreach_copy_(copies, group)
        self._remembers = True

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the values that were remembered; also those that a layer has replaced meanwhile."""
        if self._remembers:
            for (owner, name), buffer in zip(self._places, self._buffers, strict=True):
                owner[name] = buffer
            for group, copies in self._copies:
                torch._foreach_copy_(group, copies)

    def forget(self) -> None:
        """Begin the next step."""
        self._remembers = False


def _by_type(buffers: list[Tensor | None]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for buffer in buffers:
        if buffer is not None:
            groups.setdefault(buffer.dtype, []).append(buffer)
    return list(groups.values())
