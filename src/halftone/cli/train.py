"""demo, train."""

import json as json_module
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError, listed
from halftone.cli.flags import with_recipe
from halftone.run.recipe import Recipe, merge, read_recipe
from halftone.run.stopping import StopRequest, nothing_to_lose

if TYPE_CHECKING:
    from halftone.verbs import Run

Data = Annotated[
    str | None,
    Parameter(
        name=("DATA", "--data"),
        help="digits, a folder of images, a .csv or .npz file, a torchvision name such as cifar10, or hf:NAME.",
    ),
]
RecipeFile = Annotated[Path | None, Parameter(help="Read settings from this YAML file; flags win over it.")]
Json = Annotated[bool, Parameter(help="Print the result as JSON on standard output.", negative=())]
_ONE_REQUEST = 1.0
"""Seconds in which more signals say the same thing."""


@with_recipe
def train(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    resume: Annotated[Path | None, Parameter(help="Go on with the run in this folder, exactly where it was.")] = None,
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Train a classifier and leave everything in a run folder.

    What is not said is decided by a plan, which is shown first, with the reason for each choice.
    """
    if resume is not None:
        workers = _check_resume(data, recipe, settings)
        with stopping() as stop:
            with nothing_to_lose(stop):
                from halftone.verbs import resume as go_on
            run = go_on(resume, workers=workers, listeners=[_terminal()], stop=stop)
        return _finish(run, json=json)
    wish = gather(data, recipe, settings)
    with stopping() as stop:
        with nothing_to_lose(stop):
            from halftone.verbs import train as go
        run = go(wish, listeners=[_terminal()], stop=stop)
    return _finish(run, json=json)


def demo(*, seed: Annotated[int, Parameter(help="As for train.")] = 0, json: Json = False) -> int:
    """Train on the embedded digits: seconds, no download, ends with a report."""
    wish = Recipe.parse({"data": "digits", "seed": seed})
    with stopping() as stop:
        with nothing_to_lose(stop):
            from halftone.verbs import train as go
        run = go(wish, listeners=[_terminal()], stop=stop)
    return _finish(run, json=json)


def gather(data: str | None, file: Path | None, settings: dict[str, Any], *, needs_data: bool = True) -> Recipe:
    """Put a recipe together from a file, the argument and the flags; the later wins."""
    changes = settings if data is None else merge(settings, {"data": {"source": data}})
    found = Recipe.parse(changes) if file is None else read_recipe(file, changes)
    if needs_data and found.data.source == "given":
        raise RecipeError(
            "DATA is missing: say what to train on",
            hint="a folder of images, or a set such as digits: halftone train digits",
        )
    return found


def _check_resume(data: str | None, recipe: Path | None, settings: dict[str, Any]) -> int | None:
    """Return the number of workers if it was given; refuse what would change the run.

    Raises:
        RecipeError: another setting was given.
    """
    inner = settings.pop("data", {})
    workers = inner.pop("workers", None)
    extra = [*settings, *(f"data.{name}" for name in inner)]
    extra += ["DATA"] * (data is not None) + ["recipe"] * (recipe is not None)
    if extra:
        raise RecipeError(
            f"--resume goes on with the run as it was planned; {listed(extra)} cannot change now",
            hint="leave that out, or start a new run from its weights: --weights RUN/best.safetensors",
        )
    return None if workers is None else Recipe.parse({"data": {"workers": workers}}).data.workers  # type: ignore[return-value]


def _terminal() -> Any:
    from halftone.track.console import Terminal

    return Terminal(patient_console(stderr=True))


def patient_console(*, stderr: bool) -> Any:
    """Return a console for people: on standard error, or on standard output."""
    from rich.console import Console

    class Patient(Console):
        """A console whose reader may leave without ending the run."""

        def on_broken_pipe(self) -> None:
            self.quiet = True

    return Patient(stderr=stderr, soft_wrap=False)


def _finish(run: "Run", *, json: bool) -> int:
    """Print the result: data to standard output, the rest was said while it ran."""
    if json:
        metrics = run.metrics
        summary = metrics.model_dump(mode="json", exclude={"classes", "confusion"})
        print(json_module.dumps({"run": str(run.path), **summary}))
        return 0
    print(run.path)
    report = run.path / "report.html"
    if report.is_file():
        print(f"report: {report}", file=sys.stderr)
    return 0


@contextmanager
def stopping() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or termination signal into a request to stop; the second ends the process.

    Signals within a second are one: `timeout` and schedulers tell the process and then its group. A hang-up only says
    that the terminal has gone: training goes on, and what it prints there goes nowhere.
    """
    request, asked_at = StopRequest(), 0.0
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if request.signal is not None and time.monotonic() < asked_at + _ONE_REQUEST:
            return
        if request.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        asked_at = time.monotonic()
        request.ask(number)
        with suppress(OSError):  # whoever read it may have left
            os.write(2, b"\nstopping after this step and saving; once more to leave at once\n")

    def hang_up(number: int, frame: FrameType | None) -> None:
        for descriptor in terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)

    asked = {signal.SIGINT: handle, signal.SIGTERM: handle, signal.SIGHUP: hang_up}
    heeded = [number for number in asked if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, asked[number]) for number in heeded}
    try:
        yield request
    finally:
        for number, old in before.items():
            signal.signal(number, old)
