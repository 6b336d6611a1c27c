"""Reading tables that a process may have been killed over."""

import csv
import io
from pathlib import Path

from halftone.base.errors import ModelFileError


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a .csv table of a run. A last line that was left unfinished is ignored.

    Raises:
        ModelFileError: there is no such table, or it is damaged.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no {path.name} in {path.parent}")
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    try:
        rows = list(csv.DictReader(io.StringIO(whole)))
    except csv.Error as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    return [row for row in rows if None not in row and None not in row.values()]
