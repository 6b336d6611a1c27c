"""Gradients that are exactly zero, step after step: they underflow, or nothing that trains reaches the loss."""

from torch import Tensor

from halftone.loop.arriving import Arriving

_EVERY = 10
"""Steps from one look to the next. What was seen is read at the next, when a device that runs ahead is long done."""
_LOOKS = 5
"""Looks in a row that must find zero."""
VANISHED = _EVERY * (_LOOKS - 1) + 1
"""Steps that these looks span."""


class Vanishing:
    """Looks at the norm of the gradients now and then, without waiting for the device."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: Arriving | None = None
        self._in_row = 0
        self._said = False

    def look(self, tried: int, grad_norm: Tensor) -> bool:
        """Take the norm, [], of a step; return, once in a run, that all is zero."""
        if self._said or tried % _EVERY:
            return False
        seen, self._seen = self._seen, Arriving(grad_norm == 0)
        if seen is not None:
            self._in_row = self._in_row + 1 if seen.read() else 0
        self._said = self._in_row >= _LOOKS
        return self._said
