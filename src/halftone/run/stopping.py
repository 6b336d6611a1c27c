"""Ending a run on request, after the step under way and with everything saved."""

import signal
from dataclasses import dataclass

from halftone.base.errors import Interrupted


@dataclass(slots=True)
class StopRequest:
    """Set from a signal handler to end a run after the step under way."""

    signal: int | None = None


def leave_early(stop: StopRequest) -> None:
    """End a run that was asked to stop while it was being prepared.

    Raises:
        Interrupted: it was.
    """
    if stop.signal is not None:
        raise interrupted(stop, "stopped before the first step; nothing was changed", hint="")


def interrupted(stop: StopRequest, message: str, *, hint: str) -> Interrupted:
    """Return the error that ends a run on request, with the exit code of its signal."""
    error = Interrupted(message, hint=hint)
    error.exit_code = 130 if stop.signal == signal.SIGINT else 75  # type: ignore[misc]
    return error
