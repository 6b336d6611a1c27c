"""The passes of one update: the batch in as many parts as fit into memory, their gradients added up.

Where memory runs out, the passes are taken back and made again in parts of half the size. Weights change only after
all of them, so nothing else needs to be undone than gradients, the buffers of the network and the random streams, and
the update is that of a run which had asked for these parts, to the bit.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from halftone.base.errors import ResourceError
from halftone.loop.session import Session
from halftone.optim.loss import main_output
from halftone.system.memory import give_back, ran_out, shortage


@dataclass(slots=True)
class Passed:
    """What the passes of a batch came to; gradients lie on the parameters."""

    loss: Tensor
    """Mean over the batch, []."""
    num_correct: Tensor | None
    divided: int
    shortage: str


def pass_through(session: Session, images: Tensor, targets: Tensor, *, divided: int) -> Passed:
    """Gather the gradients of a batch, in more parts than the session's if memory runs out.

    A network that draws from the streams of Python or NumPy in its forward pass draws on from where they stand; those
    of torch, which dropout uses, are put back.

    Args:
        session: the built things.
        images: as the network takes them, [batch, channels, height, width].
        targets: as the criterion takes them.
        divided: pieces to divide each part into, to begin with.

    Raises:
        ResourceError: memory ran out, however small the parts.
    """
    streams, said = _Streams(session.device), ""
    while True:
        bounds = even_parts(len(images), session.parts * divided)
        try:
            loss, num_correct = _pass_parts(session, images, targets, bounds)
            return Passed(loss, num_correct, divided, said)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            said = shortage(error)
        # out here, the failed pass is gone with its error
        session.precision.take_back()
        streams.put_back()
        give_back(session.device)
        divided *= 2
        if even_parts(len(images), session.parts * divided) == bounds:
            raise ResourceError(
                f"out of memory: not even a pass of {bounds[1]} images fits: {said}",
                hint="a smaller --size, a smaller --model, or --precision bf16 takes less",
            )


def _pass_parts(session: Session, images: Tensor, targets: Tensor, bounds: list[int]) -> tuple[Tensor, Tensor | None]:
    """Pass the parts of a batch forward and backward; return the loss, [], and the correct predictions, if counted."""
    total, correct = None, None
    whole = len(bounds) == 2
    for start, end in pairwise(bounds):
        inputs, wanted = (images, targets) if whole else (images[start:end], targets[start:end])
        with session.precision.forward():
            outputs = session.forward(inputs)
            loss = session.criterion(outputs, wanted)
        if not whole:
            loss = loss * (len(inputs) / len(images))
        session.precision.backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
        if session.count_correct:
            hits = (main_output(outputs).detach().argmax(1) == wanted).count_nonzero()
            correct = hits if correct is None else correct + hits
    assert total is not None
    return total, correct


def even_parts(num_images: int, parts: int) -> list[int]:
    """Return the bounds of a batch's parts, which differ by one image at the most.

    No part has a single image as long as the batch has more: batch normalisation needs two.
    """
    parts = max(1, min(parts, num_images // 2))
    return [num_images * part // parts for part in range(parts + 1)]


class _Streams:
    """Where the random streams stand that layers draw from: torch's, and the device's."""

    def __init__(self, device: torch.device) -> None:
        self._module = None if device.type == "cpu" else torch.get_device_module(device)
        self._device = device
        self._host = torch.get_rng_state()
        self._there = None if self._module is None else self._module.get_rng_state(device)

    def put_back(self) -> None:
        torch.set_rng_state(self._host)
        if self._module is not None:
            self._module.set_rng_state(self._there, self._device)
