"""check-data."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import printable


def check_data(
    data: Annotated[str, Parameter(help="As for train.")],
    /,
    *,
    root: Annotated[Path | None, Parameter(name="--data.root", help="As for train.")] = None,
    download: Annotated[bool, Parameter(name="--data.download", help="As for train.", negative=())] = False,
    max_megapixels: Annotated[float, Parameter(name="--data.max-megapixels", help="As for train.")] = 100.0,
    workers: Annotated[int | None, Parameter(help="Decoding threads. [the usable cores]")] = None,
    strict: Annotated[bool, Parameter(help="Exit with 3 if anything is wrong.", negative=())] = False,
    json: Annotated[bool, Parameter(help="Print JSON on standard output.", negative=())] = False,
) -> int:
    """Decode every image in full and name what is broken, unbalanced or there twice."""
    from halftone.cli.progress import counted
    from halftone.data.check import check_part, find_copies
    from halftone.data.config import DataConfig
    from halftone.data.open import open_source
    from halftone.system.threads import usable_cores

    threads = usable_cores() if workers is None else workers
    config = DataConfig.parse({"source": data, "root": root, "download": download, "max_megapixels": max_megapixels})
    parts = open_source(config, least_classes=1)
    named = [("train", parts.train), ("validation", parts.validation), ("test", parts.test)]
    present = [(name, part) for name, part in named if part is not None]
    checks = []
    for name, part in present:
        growing = check_part(name, part, workers=threads)
        for check in counted(growing, total=len(part.labels), label=name):
            last = check
        checks.append(last)
    copies = find_copies(present, workers=threads)
    across = [group for group in copies if len(group.parts) > 1]
    contradictions = [group for group in copies if len(group.labels) > 1]
    problems = sum(len(check.faults) for check in checks) + len(across) + len(contradictions)
    if json:
        print(json_module.dumps(_summary(checks, copies, parts.notes, problems)))
    else:
        _show(checks, copies, parts.notes)
        print(f"{problems} problems" if problems else "no problems", file=sys.stderr)
    return 3 if strict and problems else 0


def _summary(checks: list[Any], copies: list[Any], notes: tuple[str, ...], problems: int) -> dict[str, Any]:
    return {
        "problems": problems,
        "parts": [
            {
                "part": check.part,
                "images": check.num_images,
                "gray": check.num_gray,
                "classes": check.per_class,
                "unreadable": [{"name": fault.name, "reason": fault.reason} for fault in check.faults],
            }
            for check in checks
        ],
        "copies": [{"names": group.names, "parts": group.parts, "labels": group.labels} for group in copies],
        "notes": list(notes),
    }


def _show(checks: list[Any], copies: list[Any], notes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for check in checks:
        heights, widths = zip(*check.sides, strict=True) if check.sides else ((0,), (0,))
        console.print(
            f"[bold]{check.part}[/]: {check.num_images:,} images, {check.num_gray:,} of them gray, "
            f"{min(widths)} to {max(widths)} pixels wide, {min(heights)} to {max(heights)} high, "
            f"{len(check.faults)} unreadable"
        )
        for fault in check.faults:
            console.print(f"  unreadable: {_plain(fault.name)}: {_plain(fault.reason)}", style="red")
    classes = list(checks[0].per_class)
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for check in checks:
        table.add_column(check.part, justify="right")
    for name in classes:
        table.add_row(_plain(name), *(f"{check.per_class.get(name, 0):,}" for check in checks))
    console.print(table)
    for group in copies:
        kind = "in two parts" if len(group.parts) > 1 else "under two labels" if len(group.labels) > 1 else "copies"
        style = "yellow" if kind == "copies" else "red"
        console.print(f"{kind}: {_plain(' = '.join(group.names))}", style=style)
    for note in notes:
        console.print(f"note: {_plain(note)}", style="yellow")


def _plain(text: str) -> str:
    """Make a name safe for a terminal."""
    from rich.markup import escape

    return escape(printable(text))
