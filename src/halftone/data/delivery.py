"""From the host to the device, beside what the device computes."""

import torch
from torch import Tensor


class Delivery:
    """Brings batches to a device; on CUDA by a stream of its own, from pinned memory.

    In the stream of the computation a copy would wait for the steps that were sent before it, though nothing in it
    depends on them. Here it begins at once, and the computation waits for its end only.
    """

    def __init__(self, device: torch.device) -> None:
        """Take the device."""
        self._device = device
        self._stream: torch.cuda.Stream | None = None

    def bring(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Return tensors on the device, of the same shapes; on CUDA they may be used in the current stream only."""
        if self._device.type != "cuda":
            return tuple(part.to(self._device) for part in parts)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._stream):
            brought = tuple(part.pin_memory().to(self._device, non_blocking=True) for part in parts)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for part in brought:
            part.record_stream(current)  # its memory is the copying stream's, which must not use it again before
        return brought
