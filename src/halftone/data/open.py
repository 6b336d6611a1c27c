"""From what a person named to a source of images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from halftone.base.errors import DataError, closest, listed
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled, Parts, Relabelled


def open_source(config: DataConfig, given: Any = None, *, least_classes: int = 2) -> Parts:
    """Open the data that a configuration names.

    Args:
        config: names the source.
        given: data passed in Python, used instead of the source.
        least_classes: classes with images that must be there; training needs two.

    Raises:
        DataError: not found, empty, of one class only, or not of the expected form.
    """
    parts = _open(config, given)
    _check_labels(parts.train, "training")
    names = parts.train.classes
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"several classes are called {listed(twice)}", hint="give each class a name of its own")
    parts = replace(
        parts,
        validation=_matched(parts.validation, parts.train.classes, "validation"),
        test=_matched(parts.test, parts.train.classes, "test"),
    )
    present = np.unique(parts.train.labels)
    if len(present) < least_classes:
        raise DataError(
            f"{config.source if given is None else 'the data'} has images of one class only, "
            f"{parts.train.classes[present[0]]}; "
            "a classifier needs at least two",
            hint="put the images of each class into a folder of its own",
        )
    return parts


def _open(config: DataConfig, given: Any) -> Parts:
    from halftone.data.sources.torchvision import KNOWN, open_torchvision

    name, max_pixels = config.source, int(config.max_megapixels * 1e6)
    root = None if config.root is None else config.root.expanduser()
    if given is not None:
        from halftone.data.sources.dataset import open_given

        return open_given(given)
    if name == "digits":
        from halftone.data.sources.arrays import open_digits

        return open_digits()
    if name.startswith("hf:"):
        from halftone.data.sources.hub import open_hub

        return open_hub(name.removeprefix("hf:"), root, max_pixels=max_pixels)
    if name.lower() in KNOWN:
        return open_torchvision(name.lower(), root, download=config.download, max_pixels=max_pixels)
    if name in ("given", ""):
        raise DataError("no data was named", hint="name a folder, a file, or a set such as digits or cifar10")
    path = Path(name).expanduser()
    if path.is_dir() or path.is_file():
        return _open_path(path, root, max_pixels)
    raise DataError(
        f"there is no data '{name}': it is no file or folder, and no known name",
        hint=closest(name, ["digits", *KNOWN]) or "`halftone train --help` says what DATA can be",
    )


def _open_path(path: Path, root: Path | None, max_pixels: int) -> Parts:
    if path.is_dir():
        from halftone.data.sources.folder import open_folder

        return open_folder(path.resolve(), max_pixels=max_pixels)
    if path.suffix.lower() == ".csv":
        from halftone.data.sources.table import open_table

        return open_table(path.resolve(), root, max_pixels=max_pixels)
    if path.suffix.lower() == ".npz":
        from halftone.data.sources.arrays import open_npz

        return open_npz(path)
    raise DataError(f"{path} is a file, but neither .csv nor .npz", hint="name a folder of images instead")


def settled_source(name: str) -> str:
    """Return a source's name as it means the same from anywhere: a place in full, any other name as it is."""
    from halftone.data.sources.torchvision import KNOWN

    prefix = "hf:" if name.startswith("hf:") else ""
    if name in ("digits", "given", "") or name.lower() in KNOWN:
        return name
    place = Path(name.removeprefix(prefix)).expanduser()
    return f"{prefix}{place.resolve()}" if place.exists() else name


def _check_labels(source: Labelled, part: str) -> None:
    if len(source.labels) == 0:
        raise DataError(f"the {part} part has no images")
    low, high = int(source.labels.min()), int(source.labels.max())
    if low < 0 or high >= len(source.classes):
        raise DataError(
            f"the {part} part has the label {low if low < 0 else high}, outside of the {len(source.classes)} classes, "
            "which are numbered from 0"
        )


def _matched(source: Labelled | None, classes: tuple[str, ...], part: str) -> Labelled | None:
    """Number the classes of a part as in training, by name."""
    if source is None:
        return None
    _check_labels(source, part)
    if source.classes == classes:
        return source
    unknown = [name for name in (source.classes[label] for label in np.unique(source.labels)) if name not in classes]
    if unknown:
        raise DataError(
            f"the {part} part has classes that training does not: {listed(unknown)} (training has {listed(classes)})",
            hint=closest(unknown[0], classes) or "the classes of all parts carry the same names",
        )
    return Relabelled(source, classes)
