"""The entry: argv to a command, errors to one line and an exit code."""

import io
import os
import re
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from halftone.base.errors import HalftoneError
from halftone.cli.compare import compare
from halftone.cli.data import check_data
from halftone.cli.diagnose.commands import diagnose
from halftone.cli.doctor import doctor
from halftone.cli.find_lr import find_lr
from halftone.cli.plan import plan
from halftone.cli.register import register
from halftone.cli.report import report
from halftone.cli.train import demo, train
from halftone.cli.tune import tune
from halftone.cli.use import evaluate, predict
from halftone.cli.verify_resume import verify_resume
from halftone.cli.weights.commands import weights
from halftone.run.recipe import SYNONYMS
from halftone.version import __version__

app = App(
    name="halftone",
    help="Trains image classifiers in reduced precision with full-precision accuracy, and proves it.",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
    console=Console(highlight=False),
    error_console=Console(stderr=True, highlight=False),
)
register(app, demo, train, plan, compare, find_lr, tune, evaluate, predict, report, check_data, verify_resume, doctor)
app.command(diagnose)
app.command(weights)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    0 done, 2 the request was wrong, 3 the data, 4 a model or checkpoint file, 5 training diverged, 6 the
    environment or resources, 75 interrupted and resumable, 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter must not end the run
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()  # here, where a reader that has left is understood
    except CycloptsError as error:
        _complain(*_reworded(error))
        return 2
    except HalftoneError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error), error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("stopped before there was anything to save", "")
        return 130
    except BrokenPipeError:
        # the reader of our output has left; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: people get one line, --debug gives the rest
        if debug:
            traceback.print_exc()
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        _complain(f"{type(error).__name__}: {error}{where}", "this is a fault of halftone's; --debug shows where")
        return 1
    return result if isinstance(result, int) else 0


def _complain(message: str, hint: str) -> None:
    try:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
    except (OSError, ValueError):  # nobody listens
        pass


def _reworded(error: CycloptsError) -> tuple[str, str]:
    """Split what the parser says into the fault and the suggestion."""
    message = " ".join(str(error).split())
    known = _known_elsewhere(message)
    if known:
        return message.partition(" Did you mean ")[0], known
    for mark in (" Did you mean ", " Available commands"):
        fault, found, rest = message.partition(mark)
        if found:
            return fault, f"{mark.strip().lower()} {rest}"
    return message, "halftone --help, or --help behind a command, lists what there is"


def _known_elsewhere(message: str) -> str:
    """Return a hint for a flag that other tools have under another name."""
    flag = re.search(r"--([\w-]+)", message)
    name = SYNONYMS.get(flag[1].replace("-", "_"), "") if flag else ""
    return f"it is called --{name.replace('_', '-')} here" if name else ""


if __name__ == "__main__":
    sys.exit(main())
