"""Many tensors as one: side by side in one piece of memory, so that one operation reaches all of them.

A network has hundreds of small tensors, and on a GPU each operation costs the host some microseconds, however little
there is to do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Packed:
    """Room for the numbers of several tensors that are of one type and on one device."""

    def __init__(self, tensors: Sequence[Tensor], room: Tensor | None = None) -> None:
        """Make room for tensors such as these; their numbers are not taken yet.

        Args:
            tensors: at least one.
            room: memory to use, at least as many numbers of that type; without it, some of its own.
        """
        sizes = [tensor.numel() for tensor in tensors]
        self.flat = tensors[0].new_empty(sum(sizes)) if room is None else room[: sum(sizes)]
        """[numbers in all]"""
        # the layout in memory is that of each tensor, so that a GPU copies all of them at once
        self._views = [
            piece.as_strided(tensor.shape, torch.empty_like(tensor, device="meta").stride())
            for piece, tensor in zip(self.flat.split(sizes), tensors, strict=True)
        ]

    @torch.no_grad()
    def take(self, tensors: list[Tensor]) -> Tensor:
        """Copy the numbers of tensors of the same shapes and return them as one tensor, [numbers in all]."""
        torch._foreach_copy_(self._views, tensors)
        return self.flat

    @torch.no_grad()
    def give(self, tensors: list[Tensor]) -> None:
        """Copy the numbers into tensors of the same shapes."""
        torch._foreach_copy_(tensors, self._views)


def by_type(tensors: Sequence[Tensor | None]) -> list[list[Tensor]]:
    """Sort tensors into groups of one type each, in their order; absent ones are left out."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if tensor is not None:
            groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())
