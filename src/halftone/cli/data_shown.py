"""What check-data found, as JSON and for people."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halftone.base.errors import listed, printable
from halftone.data.check import PartCheck
from halftone.data.checked import Checked
from halftone.data.copies import Copies, leaked
from halftone.data.survey import Fault

if TYPE_CHECKING:  # it brings all that trains
    from halftone.run.label_check import JudgedPart

MOST = 50
"""Of copies and of labels, lines for people of each kind; JSON holds all."""


def summary(checked: Checked, judged: "Sequence[JudgedPart]") -> dict[str, Any]:
    """Return all that was found, for JSON."""
    return {
        "data": checked.name,
        "problems": checked.num_problems,
        "parts": [_part(check, checked.copies) for check in checked.parts],
        "left_out": [{"name": other.name, "reason": other.reason} for other in checked.left_out],
        "leaks": len(checked.leaks),
        "contradictions": len(checked.contradictions),
        "copies": [
            {
                "kind": group.kind,
                "likeness": group.likeness,
                "names": group.names,
                "parts": group.parts,
                "labels": group.labels,
                "images": [{"part": place.part, "name": place.name, "label": place.label} for place in group.images],
            }
            for group in checked.copies
        ],
        "labels": [
            {
                "part": part.part,
                "trained_on": part.trained_on,
                "images": part.num_judged,
                "agreement": part.agreement,
                "errors": [asdict(error) for error in part.errors],
            }
            for part in judged
        ],
        "notes": list(checked.notes),
    }


def _part(check: PartCheck, copies: Sequence[Copies]) -> dict[str, Any]:
    return {
        "part": check.part,
        "images": check.num_images,
        "gray": check.num_gray,
        "modes": dict(check.modes.most_common()),
        "formats": dict(check.kinds.most_common()),
        "sizes": size_ranges(check),
        "classes": check.per_class,
        "unreadable": _named(check.faults),
        "suspicious": _named(check.suspects),
        "renamed": _named(check.renamed),
        "several_frames": [fault.name for fault in check.animated],
        "leaked": leaked(copies, check.part),
    }


def _named(faults: Iterable[Fault]) -> list[dict[str, str]]:
    return [{"name": fault.name, "reason": fault.reason} for fault in faults]


def size_ranges(check: PartCheck) -> dict[str, dict[str, int]]:
    """Return the least, median and largest height and width in pixels; nothing where no image can be read."""
    sides = check.sides[check.readable]
    if not len(sides):
        return {}
    rows = zip(("height", "width"), sides.T, strict=True)
    return {
        name: {"least": int(side.min()), "median": int(np.median(side)), "most": int(side.max())} for name, side in rows
    }


def show(checked: Checked, judged: "Sequence[JudgedPart]") -> None:
    """Print what was found."""
    console = Console(highlight=False, soft_wrap=True)
    for check in checked.parts:
        _show_part(console, check)
    for other in checked.missed:
        console.print(f"left out: {_plain(other.name)}: {_plain(other.reason)}", style="red")
    console.print(_class_table(checked.parts))
    _show_copies(console, checked)
    for part in judged:
        _show_labels(console, part)
    for note in checked.notes:
        console.print(f"note: {_plain(note)}", style="yellow")


def _show_part(console: Console, check: PartCheck) -> None:
    sizes = size_ranges(check)
    around = ""
    if sizes:
        width, height = sizes["width"], sizes["height"]
        around = (
            f"{width['least']} to {width['most']} pixels wide, {height['least']} to {height['most']} high "
            f"(medians {width['median']} x {height['median']}), "
        )
    suspicious = f", {len(check.suspects)} suspicious" if check.suspects else ""
    console.print(
        f"[bold]{check.part}[/]: {check.num_images:,} images, {check.num_gray:,} of them gray, {around}"
        f"{len(check.faults)} unreadable{suspicious}"
    )
    counted = [f"{count:,} {kind}" for kind, count in (*check.kinds.most_common(), *check.modes.most_common())]
    console.print(f"  {_plain(', '.join(counted))}", style="dim")
    for fault in check.faults:
        console.print(f"  unreadable: {_plain(fault.name)}: {_plain(fault.reason)}", style="red")
    for fault in check.suspects:
        console.print(f"  suspicious: {_plain(fault.name)}: {_plain(fault.reason)}", style="red")
    for what, faults in (
        ("of another format than their names say", check.renamed),
        ("with several frames, of which the first is used", check.animated),
    ):
        if faults:
            names = listed([fault.name for fault in faults], most=3)
            console.print(f"  {len(faults):,} {what}: {_plain(names)}")


def _class_table(checks: Sequence[PartCheck]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    counts = [check.per_class for check in checks]
    for check in checks:
        table.add_column(check.part, justify="right")
    for name in counts[0]:
        table.add_row(_plain(name), *(f"{count.get(name, 0):,}" for count in counts))
    return table


def _show_copies(console: Console, checked: Checked) -> None:
    """Print groups of copies: leaks first, then contradictions, then what is merely there twice."""
    for what, groups, style in (
        ("in two parts", checked.leaks, "red"),
        ("under two labels", checked.contradicting, "red"),
        ("copies", checked.harmless, "yellow"),
    ):
        for group in groups[:MOST]:
            sign, likeness = (" = ", "") if group.kind == "equal" else (" ~ ", f" (alike, {group.likeness:.2f})")
            both = " and under two labels" if what == "in two parts" and len(group.labels) > 1 else ""
            console.print(f"{what}{both}: {_plain(sign.join(group.names))}{likeness}", style=style)
        if len(groups) > MOST:
            console.print(f"{what}: {len(groups) - MOST:,} more, which --json lists", style=style)
    for check in checked.parts:
        count = leaked(checked.copies, check.part)
        if count and check.part != "train":
            share = f"{count:,} of {check.num_images:,} {check.part} images ({count / check.num_images:.1%})"
            console.print(f"{share} have a copy in another part: what is measured on them is too good", style="red")


def _show_labels(console: Console, part: "JudgedPart") -> None:
    console.print(
        f"[bold]labels of {part.part}[/]: {len(part.errors):,} of {part.num_judged:,} are probably wrong by the run, "
        f"which agrees with {part.agreement:.1%}; {'; '.join(part.remarks())}"
    )
    for error in part.errors[:MOST]:
        console.print(
            f"  {_plain(error.name)}: {_plain(error.given)} ({error.given_probability:.1%}), "
            f"rather {_plain(error.suggested)} ({error.probability:.1%})"
        )
    if len(part.errors) > MOST:
        console.print(f"  {len(part.errors) - MOST:,} more, which --json lists")


def _plain(text: str) -> str:
    """Make a name safe for a terminal."""
    return escape(printable(text))
