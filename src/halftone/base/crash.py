"""Crash points: numbered places at which a process can be made to die as by `kill -9`, so that tests meet every one.

`HALFTONE_CRASH_AT=STEP+COUNT` in the environment ends the process in the COUNT-th point within the writing and removing
of files that it reaches once optimizer step STEP is under way: `17+0` dies in the middle of step 17 itself, `17+1` as
the next file is begun, and `0+COUNT` counts from the start of the process. Without the variable a point is a comparison
with None.
"""

import os
import re
import signal
from pathlib import Path

VARIABLE = "HALFTONE_CRASH_AT"
_SHARES = (0.0, 0.3, 0.7)
"""Of a file, that had reached it when its writer died."""


class _Fuse:
    """Counts the points that a process passes, and ends it in one of them."""

    def __init__(self, step: int, count: int) -> None:
        self._step, self._left, self._burns = step, count, not step

    def in_step(self, step: int) -> None:
        self._burns = self._burns or step >= self._step
        if self._burns and self._left == 0:
            _die()

    def in_file(self, cut: tuple[Path, int] | None = None) -> None:
        if not self._burns:
            return
        self._left -= 1
        if self._left == 0:
            if cut is not None:
                os.truncate(*cut)
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fuse(text: str) -> _Fuse | None:
    found = re.fullmatch(r"(\d+)\+(\d+)", text)
    return _Fuse(int(found[1]), int(found[2])) if found else None


_armed = _fuse(os.environ.get(VARIABLE, ""))


def arm(place: str) -> None:
    """Set the point of this process as the variable would; what is no such point disarms it."""
    global _armed
    _armed = _fuse(place)


def crash_in_step(step: int) -> None:
    """Die in the middle of an optimizer step, counted from 1, if it is its turn."""
    if _armed is not None:
        _armed.in_step(step)


def crash_point() -> None:
    """Die here, between two operations on files, if it is this point's turn."""
    if _armed is not None:
        _armed.in_file()


def crash_within(path: Path) -> None:
    """Die as if a file had not been written to its end: what a library writes in one call is cut off here."""
    if _armed is not None:
        size = path.stat().st_size
        for share in _SHARES:
            _armed.in_file((path, int(share * size)))
