"""Ending a run on request: after the step under way and with everything saved, or at once where nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from halftone.base.errors import Interrupted

_UNBEGUN = "stopped before the first step; nothing was changed"


@dataclass(slots=True)
class StopRequest:
    """Set from a signal handler to end a run after the step under way."""

    signal: int | None = None
    at_once: bool = False
    """Whether nothing would be lost now."""

    def ask(self, number: int) -> None:
        """Take a signal, in its handler in the main thread.

        Raises:
            KeyboardInterrupt: nothing would be lost; it ends what is under way.
        """
        self.signal = number
        if self.at_once:
            raise KeyboardInterrupt


def leave_early(stop: StopRequest) -> None:
    """End a run that was asked to stop while it was being prepared.

    Raises:
        Interrupted: it was.
    """
    if stop.signal is not None:
        raise interrupted(stop, _UNBEGUN)


@contextmanager
def nothing_to_lose(stop: StopRequest, message: str = _UNBEGUN, hint: str = "") -> Iterator[None]:
    """Let a request to stop interrupt what is done here: it may take long, and nothing of it is worth saving.

    Args:
        stop: the request.
        message: what is said of a run that ends here.
        hint: the next action.

    Raises:
        Interrupted: it was asked to.
    """
    try:
        stop.at_once = True
        if stop.signal is not None:  # from here on it would have interrupted
            raise KeyboardInterrupt
        yield
    except KeyboardInterrupt:
        if stop.signal is None:
            raise
        raise interrupted(stop, message, hint) from None
    finally:
        stop.at_once = False


def interrupted(stop: StopRequest, message: str, hint: str = "") -> Interrupted:
    """Return the error that ends a run on request, with the exit code of its signal."""
    error = Interrupted(message, hint=hint)
    error.exit_code = 130 if stop.signal == signal.SIGINT else 75  # type: ignore[misc]
    return error
