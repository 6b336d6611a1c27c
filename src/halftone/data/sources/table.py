"""A .csv file with the columns `path,label` and optionally `split` (train, val or test)."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halftone.base.errors import DataError, closest, listed
from halftone.data.labelled import Parts
from halftone.data.sources.files import FileImages
from halftone.data.sources.folder import TEST, TRAIN, VALIDATION

_SPLITS = {name: names for names in (TRAIN, VALIDATION, TEST) for name in names}


class _Row(NamedTuple):
    number: int
    """The line that the row ends on; the heading is line 1."""
    file: str
    label: str
    split: tuple[str, ...]


def open_table(path: Path, root: Path | None, *, max_pixels: int) -> Parts:
    """Open a table of image files.

    Args:
        path: the .csv file, in UTF-8 with or without a byte-order mark.
        root: the folder that relative paths start from; the table's own folder without it.
        max_pixels: pictures with more pixels are refused.

    Raises:
        DataError: naming the row (the heading is row 1), for a missing column, an empty field, a file that is
            not there, the same file twice, a path that leaves the root, or a class that training does not know.
    """
    root = Path(os.path.abspath(root or path.parent))  # noqa: PTH100 links stay as they are
    rows: dict[str, _Row] = {}
    for row in _rows(path):
        file = os.path.relpath(root / row.file, root)
        where = f"{path}, row {row.number}"
        if Path(file).parts[:1] == (os.pardir,):
            raise DataError(f"{where}: {row.file} lies outside of {root}", hint="name a folder above it: --data.root")
        if file in rows:
            raise DataError(f"{where}: {row.file} stands there twice, first in row {rows[file].number}")
        if not os.path.isfile(root / file):  # noqa: PTH113 False where Path.is_file raises
            raise DataError(f"{where}: there is no file {root / file}", hint="paths start from --data.root")
        rows[file] = row
    if not rows:
        raise DataError(f"{path} has no rows")
    present = {row.label for row in rows.values() if row.split == TRAIN}
    classes = tuple(sorted(present))
    if not classes:
        raise DataError(f"{path} has no rows for training")
    for row in rows.values():
        if row.label not in present:
            raise DataError(
                f"{path}, row {row.number}: no training row has the label '{row.label}' (they have {listed(classes)})",
                hint=closest(row.label, classes),
            )

    number = {label: position for position, label in enumerate(classes)}

    def part(split: tuple[str, ...]) -> FileImages:
        chosen = {file: number[row.label] for file, row in rows.items() if row.split == split}
        return FileImages(root, tuple(chosen), np.array(list(chosen.values()), dtype=np.int64), classes, max_pixels)

    validation, test = part(VALIDATION), part(TEST)
    return Parts(part(TRAIN), validation if validation.paths else None, test if test.paths else None)


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = columns = [name.strip().lower() for name in reader.fieldnames or ()]
            if "path" not in columns or "label" not in columns:
                raise DataError(
                    f"{path} has the columns {listed(columns) or 'none'}",
                    hint="the first row must name the columns path,label with a comma between them",
                )
            for row in reader:
                name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                split = (row.get("split") or "train").strip().lower()
                where = f"{path}, row {reader.line_num}"
                if not name or not label or None in row:
                    raise DataError(f"{where}: it needs a path and a label, and no further fields")
                if split not in _SPLITS:
                    raise DataError(f"{where}: split = '{split}': it must be train, val or test")
                # the table is in UTF-8, and so are file names, whatever the locale says
                yield _Row(reader.line_num, os.fsdecode(name.encode()), label, _SPLITS[split])
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}", hint="save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
