"""diagnose speed."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError, printable
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather

if TYPE_CHECKING:
    from halftone.diagnose.speed_record import Pace, SpeedDiagnosis

_FIGURE, _NUMBERS = "speed.png", "speed.json"
_LEAST_SECONDS = 0.5


@with_recipe
def speed(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    seconds: Annotated[
        float, Parameter(help="How long to take steps, about; the parts alone and other precisions take as long again.")
    ] = 20.0,
    out: Annotated[Path, Parameter(help="Where the picture and the numbers go.")] = Path("diagnosis"),
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Say where the time of a training step goes, what limits it, and what to change.

    The steps are those of train, taken on a copy of the network: nothing of a later run changes.
    """
    from halftone.system.process import seconds_since_start

    typed = seconds_since_start() or 0.0
    wish = gather(data, recipe, settings)
    if not seconds >= _LEAST_SECONDS:
        raise RecipeError(f"seconds = {seconds:g}: it must be at least {_LEAST_SECONDS:g}", hint="20 is usual")
    clock = time.perf_counter()
    from halftone.base.files import make_folder, write_bytes, write_text
    from halftone.diagnose.speed import diagnose_speed
    from halftone.diagnose.speed_figure import speed_figure
    from halftone.report.figures import to_png

    before = {"imports": typed + time.perf_counter() - clock}
    found = diagnose_speed(wish, seconds=seconds, before=before, say=_say)
    make_folder(out)
    write_text(out / _NUMBERS, found.model_dump_json(indent=1))
    write_bytes(out / _FIGURE, to_png(speed_figure(found)))
    if json:
        print(found.model_dump_json())
    else:
        _show(found)
    print(f"picture: {out / _FIGURE}", file=sys.stderr)
    return 0


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring: {what}", file=sys.stderr)


def _show(found: "SpeedDiagnosis") -> None:
    from rich.console import Console

    around, measured = found.circumstances, found.measured
    console = Console(highlight=False)
    data = "a resident set" if around.feed == "resident" else f"{around.workers} decoding threads"
    print(
        f"{around.model} at {around.size} pixels in {around.precision}, batches of {around.batch_size}; "
        f"{printable(around.device)}, {around.threads} threads, {data}; {measured.num_steps} steps timed"
    )
    console.print(_parts(found))
    console.print(_limits(found))
    stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in measured.start.items())
    print(f"before the first step, {sum(measured.start.values()):.1f} s in all: {stages}")
    print(f"verdict: {found.verdict}. {found.sentence}")
    for remedy in found.remedies:
        print(f"advice: {remedy.advice} ({remedy.reason})")
    if not found.remedies:
        print("advice: nothing to change")


def _parts(found: "SpeedDiagnosis") -> Any:
    from rich.table import Table

    from halftone.diagnose.speed_figure import PARTS

    step = found.measured.step
    whole = sum(step.values())
    table = Table(box=None, pad_edge=False)
    for title in ("a step", "ms", "share"):
        table.add_column(title, justify="left" if title == "a step" else "right")
    for name, (shown, _) in PARTS.items():
        spent = step.get(name, 0.0)  # type: ignore[call-overload]
        table.add_row(shown, f"{1000 * spent:.2f}", f"{spent / whole:.1%}")
    table.add_row("in all", f"{1000 * whole:.2f}", "")
    return table


def _limits(found: "SpeedDiagnosis") -> Any:
    from rich.table import Table

    measured = found.measured
    table = Table(box=None, pad_edge=False)
    table.add_column("images per second")
    table.add_column("", justify="right")
    table.add_column("")
    table.add_row("as it trains", *_pace(measured.real))
    table.add_row("the model alone", *_pace(measured.model))
    if measured.half_batch is not None:
        table.add_row("the same, half the batch", f"{measured.half_batch:,.1f}", "")
    table.add_row("reading alone", f"{measured.reading:,.1f}", "")
    table.add_row("augmentation alone", f"{measured.changing:,.1f}", "")
    if measured.copying is not None:
        table.add_row("copying to the device alone", f"{measured.copying:,.1f}", "")
    for mode, pace in measured.precisions.items():
        table.add_row(f"the model in {mode}", f"{pace:,.1f}", "")
    return table


def _pace(pace: "Pace") -> tuple[str, str]:
    return f"{pace.median:,.1f}", f"({pace.least:,.1f} to {pace.most:,.1f})"
