"""What the commands on weight files share: arguments, and how numbers and tables are shown."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError

if TYPE_CHECKING:
    from rich.table import Table

File = Annotated[Path, Parameter(help="A weight file of any origin, a checkpoint, or a run: its best weights.")]

_WIDE = 160
"""Columns of a table where nobody says how many there are."""


def refuse_overwriting(out: Path, *, force: bool) -> None:
    """Refuse a place where something is, unless it is a file and may go.

    Raises:
        RecipeError: it is taken.
    """
    if out.is_dir():
        raise RecipeError(f"{out} is a folder", hint="name a file in it")
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already", hint="choose another name, or overwrite it with --force")


def table(*titles: str) -> "Table":
    """Return an empty table, the first column to the left, folded if need be, and the others to the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    made.add_column(titles[0], overflow="fold", min_width=16)
    for title in titles[1:]:
        made.add_column(title, justify="right", no_wrap=True)
    return made


def print_table(made: "Table") -> None:
    """Print a table of plain text; into a pipe or a file in its full width, and nowhere are numbers cut off."""
    from rich.console import Console

    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(highlight=False, markup=False, width=None if narrow else _WIDE)
    needed = console.measure(made, options=console.options.update(width=_WIDE)).minimum
    console.width = max(console.width, needed)
    console.print(made)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(values))


def number(value: float | None) -> str:
    """Write a number in three digits."""
    return "-" if value is None else f"{value:.3g}"
