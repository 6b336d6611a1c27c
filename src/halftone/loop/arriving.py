"""What became of steps, on its way from the device to the host."""

from dataclasses import dataclass

import torch
from torch import Tensor


class Arriving:
    """A truth value that was sent to the host without waiting for it."""

    def __init__(self, value: Tensor) -> None:
        """Send a truth value, []."""
        self._copy = value
        self._sent: torch.Event | None = None
        if value.device.type != "cpu":
            # pinned: into other memory the device does not write by itself
            self._copy = torch.empty((), dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            module = torch.get_device_module(value.device)
            self._sent = module.Event()
            self._sent.record(module.current_stream(value.device))

    def read(self) -> bool:
        """Return the value, waiting for no more than its arrival."""
        if self._sent is not None:
            self._sent.synchronize()
        return bool(self._copy)


@dataclass(frozen=True, slots=True)
class Tried:
    """A step that was tried."""

    applied: Arriving
    num_images: int
    tried: int
    """Which step it was: the number of those tried, this one included."""
