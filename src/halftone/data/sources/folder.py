"""A folder of images: `train/<class>/`, `val|valid|validation|test/<class>/`, or `<class>/` alone."""

import os
from pathlib import Path
from unicodedata import normalize

import numpy as np

from halftone.base.errors import DataError, closest, listed, printable
from halftone.data.labelled import LeftOut, Parts
from halftone.data.sources.files import FileImages, is_hidden, kind_of, looks_like_image, walk

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test", "testing")
_PLAN = "plan.yaml"
"""Lies in each run's folder: `halftone train .` leaves its runs beside the classes."""
_ONE_PER_CLASS = "put the images of each class into a folder of its own"


def open_folder(root: Path, *, max_pixels: int) -> Parts:
    """Open an image folder.

    Classes are the folders of the training part, in alphabetical order; the other parts are matched to them
    by name, never by position.

    Raises:
        DataError: no class folders, a class folder without images, a class that training does not know.
    """
    parts = {name.lower(): name for name in _folders(root)}

    def named(names: tuple[str, ...]) -> Path | None:
        return next((root / parts[name] for name in names if name in parts), None)

    train_folder, others = named(TRAIN), {names: named(names) for names in (VALIDATION, TEST)}
    if train_folder is None or (not _folders(train_folder) and not any(others.values())):
        train, notes, left_out = _open_part(root, root, None, max_pixels)  # there may be a class called "train"
        return Parts(train, notes=notes, left_out=left_out)
    train, notes, left_out = _open_part(root, train_folder, None, max_pixels)
    found: dict[tuple[str, ...], FileImages] = {}
    for names, folder in others.items():
        if folder is None:
            continue
        if names == TEST and not _folders(folder):
            notes += (f"left out {folder.name}/: its images lie in no class folders, so nobody says what they are",)
            continue
        found[names], more_notes, more_left = _open_part(root, folder, train.classes, max_pixels)
        notes, left_out = notes + more_notes, left_out + more_left
    return Parts(train, found.get(VALIDATION), found.get(TEST), notes, left_out)


def _folders(root: Path) -> list[str]:
    """List the folders in a folder, without hidden ones and without one that holds runs of halftone."""
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if not is_hidden(entry.name) and kind_of(entry) == "folder"]
        return sorted(name for name in names if next((root / name).glob(f"*/{_PLAN}"), None) is None)
    except OSError as error:
        raise DataError(f"cannot read the folder {root}: {error.strerror}") from error


def _open_part(
    root: Path, part: Path, known: tuple[str, ...] | None, max_pixels: int
) -> tuple[FileImages, tuple[str, ...], tuple[LeftOut, ...]]:
    """List one part; `known` are the classes of the training part, or None for that part itself."""
    folders = {name: _class_name(name) for name in _folders(part)}
    if not folders:
        raise DataError(f"{part} has no class folders", hint=_ONE_PER_CLASS)
    classes = tuple(sorted(set(folders.values()))) if known is None else known
    unknown = [name for name in folders.values() if name not in classes]
    if unknown:
        raise DataError(
            f"{part} has classes that training does not: {listed(unknown)} (training has {listed(classes)})",
            hint=closest(unknown[0], classes) or "the class folders of all parts carry the same names",
        )
    paths: list[str] = []
    labels: list[int] = []
    others: list[LeftOut] = []
    for folder, name in folders.items():
        images = _list_class(root, part / folder, others)
        if not images and known is None:
            raise DataError(f"the class folder {part / folder} holds no images", hint="fill it or remove it")
        paths += images
        labels += [classes.index(name)] * len(images)
    source = FileImages(root, tuple(paths), np.array(labels, dtype=np.int64), classes, max_pixels)
    return source, _notes(source, part.name, others), tuple(others)


def _class_name(folder: str) -> str:
    """Return a folder's name as text: UTF-8 whatever the locale says, what is none escaped, and accents in one form."""
    text = os.fsencode(folder).decode("utf-8", "surrogateescape")
    return normalize("NFC", printable(text))  # one system's "é" is another's "e" and accent


def _notes(source: FileImages, part: str, others: list[LeftOut]) -> tuple[str, ...]:
    """Say which files were left out and which classes a part lacks."""
    notes: list[str] = []
    if others:
        names = printable(listed([other.name for other in others], most=3))
        notes.append(f"left out {len(others)} that are not images: {names}")
    present = set(source.labels.tolist())
    absent = [name for number, name in enumerate(source.classes) if number not in present]
    if absent:
        notes.append(f"{part} has no images of {printable(listed(absent))}")
    return tuple(notes)


def _list_class(root: Path, folder: Path, others: list[LeftOut]) -> list[str]:
    """Return the image files of one class relative to the root; append what is none to `others`."""
    images: list[str] = []
    strange: list[LeftOut] = []
    prefix = folder.relative_to(root).as_posix()
    try:
        for path in walk(folder, strange):
            if looks_like_image(folder / path):
                images.append(f"{prefix}/{path}")
            else:
                others.append(LeftOut(f"{prefix}/{path}", "not an image, by its name and its start", meant=False))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    others += [other._replace(name=f"{prefix}/{other.name}") for other in strange]
    return images
