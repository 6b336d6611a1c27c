"""Training in processes of their own, which can be made to die where it hurts."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from halftone.base import errors
from halftone.base.crash import VARIABLE
from halftone.base.errors import HalftoneError, ResourceError
from halftone.run.stopping import StopRequest, interrupted

Launch = Callable[[Sequence[str], str, Path, StopRequest], int]
"""Runs `halftone` with some arguments and a crash point, appends what it says to a log, and returns its exit status."""
_WAIT = 0.2
"""Seconds between two looks at a request to stop."""
_KINDS = (errors.RecipeError, errors.DataError, errors.ModelFileError, errors.Diverged, errors.ResourceError)


def launch(arguments: Sequence[str], crash_at: str, log: Path, stop: StopRequest) -> int:
    """Run `halftone` in a new process, with a session of its own, so that Ctrl-C is ours alone.

    Args:
        arguments: of the command line.
        crash_at: a crash point, see `halftone.base.crash`, or nothing.
        log: what it prints is added to it.
        stop: ends the process when its signal is set.

    Returns:
        The exit code, or the negative number of the signal that ended it.

    Raises:
        Interrupted: a stop was asked for; the process is gone.
        ResourceError: no process can be started.
    """
    surroundings = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if crash_at:
        surroundings[VARIABLE] = crash_at
    with log.open("ab") as said:
        try:
            process = subprocess.Popen(  # noqa: S603 this interpreter, and files of ours
                [sys.executable, "-m", "halftone", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=surroundings,
                start_new_session=True,
            )
        except OSError as error:
            raise ResourceError(f"no process can be started to train in: {error.strerror}") from error
    try:
        while True:
            try:
                return process.wait(_WAIT)
            except subprocess.TimeoutExpired:
                if stop.signal is not None:
                    raise interrupted(stop, "stopped before there was a verdict") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def fault_of(status: int, log: Path) -> HalftoneError:
    """Return the error that ended a training process, in the words of its log."""
    if status < 0:
        return ResourceError(f"training was ended by signal {-status}, which was not ours", hint=f"see {log}")
    lines = log.read_text("utf-8", "backslashreplace").splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    message = said[-1] if said else f"training ended with exit code {status}"
    kind = next((kind for kind in _KINDS if kind.exit_code == status), HalftoneError)
    return kind(message, hint=hints[-1] if hints else "")
