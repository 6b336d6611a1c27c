"""Data sets of the Hugging Face hub, and local ones in its formats: `hf:NAME` or `hf:FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halftone.base.errors import DataError, UnreadableImage, listed
from halftone.base.extras import require
from halftone.data.decode import MAX_PIXELS, decode, look, read_file
from halftone.data.labelled import Encoded, Labels, Look, Parts, Pixels
from halftone.data.sources.folder import TEST, TRAIN, VALIDATION

_UNLABELLED = -1
"""What the hub writes where a label is withheld, as in the test parts of competitions."""


@dataclass(frozen=True, slots=True)
class HubImages:
    """A labelled source over a table whose image column holds encoded files."""

    table: Any
    column: str
    labels: Labels
    classes: tuple[str, ...]
    prefix: str
    max_pixels: int = MAX_PIXELS

    @property
    def array(self) -> None:
        """The table lies on disk."""
        return None

    def pixels(self, index: int) -> Pixels:
        """Decode one image."""
        return decode(self.content(index), max_pixels=self.max_pixels)

    def encoded(self, index: int) -> Encoded:
        """Return one image file as it was stored, and the largest picture that is taken."""
        return Encoded(self.content(index), self.max_pixels)

    def look(self, index: int) -> Look:
        """Read one image's header."""
        return look(self.content(index), max_pixels=self.max_pixels)

    def content(self, index: int) -> bytes:
        """Return one image file as it was stored."""
        cell = self.table[index][self.column]
        if cell is None:
            raise UnreadableImage("the table has no image there")
        return cell["bytes"] if cell["bytes"] is not None else read_file(Path(cell["path"]))

    def name(self, index: int) -> str:
        """Name one image by its position."""
        return f"{self.prefix}-{index:05d}"


def open_hub(name: str, root: Path | None, *, max_pixels: int) -> Parts:
    """Open a data set of the hub by its name.

    Raises:
        ResourceError: the package `datasets` is missing.
        DataError: it cannot be had, or has no image and no label column.
    """
    datasets = require("datasets", extra="hub")
    datasets.disable_progress_bars()
    try:
        tables = datasets.load_dataset(name, cache_dir=None if root is None else str(root))
    except Exception as error:  # the hub client raises many kinds
        raise DataError(f"hf:{name} cannot be had: {' '.join(str(error).split())}") from error
    parts = {split.lower(): table for split, table in tables.items()}
    notes: list[str] = []

    def part(names: tuple[str, ...]) -> HubImages | None:
        found = next((split for split in names if split in parts), None)
        if found is None:
            return None
        source = _part(datasets, name, parts[found], found, max_pixels)
        if names is not TRAIN and (source.labels == _UNLABELLED).all():
            notes.append(f"the part {found} has no labels and is left out")
            return None
        return source

    train = part(TRAIN)
    if train is None:
        raise DataError(f"hf:{name} has the parts {listed(parts)}, but none for training")
    return Parts(train, part(VALIDATION), part(TEST), tuple(notes))


def _part(datasets: Any, name: str, table: Any, split: str, max_pixels: int) -> HubImages:
    image = next((column for column, kind in table.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((column for column, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None or label is None:
        raise DataError(f"hf:{name} has the columns {listed(table.features)}, but no image and class label among them")
    labels = np.array([_UNLABELLED if number is None else number for number in table[label][:]], dtype=np.int64)
    classes = tuple(table.features[label].names)
    table = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    return HubImages(table, image, labels, classes, split, max_pixels)
