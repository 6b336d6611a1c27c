"""The data sets that torchvision knows by name, read from disk or downloaded on request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from halftone.base.errors import DataError, HalftoneError, ResourceError
from halftone.data.labelled import Labelled, Parts
from halftone.data.sources.arrays import ArrayImages, from_arrays
from halftone.data.sources.files import FileImages

CACHE = Path("~/.cache/halftone/data")


def _arrays(dataset: Any, prefix: str) -> ArrayImages:
    """Take a data set that holds all of its images in `.data`."""
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    names = getattr(dataset, "classes", None)
    classes = None if names is None else tuple(str(name) for name in names)
    return from_arrays(np.asarray(dataset.data), np.asarray(labels), classes, prefix=prefix)


def _path_loader(path: Any) -> Any:
    """Stand in for a loader of images: what is wanted is where they lie, halftone decodes them itself."""
    return path


def _files(samples: list[tuple[Any, Any]], classes: Any, root: Path, max_pixels: int) -> FileImages:
    labels = np.array([label for _, label in samples], dtype=np.int64)
    # Imagenette names a class by all of its synonyms
    text = tuple(name if isinstance(name, str) else name[0] for name in classes)
    paths = tuple(Path(path).relative_to(root).as_posix() for path, _ in samples)
    return FileImages(root, paths, labels, text, max_pixels)


Load = Callable[[Path, bool, int], Parts]
"""From the root, whether to download, and the largest number of pixels."""


def _array_parts(kind: Callable[..., Any], **options: Any) -> Load:
    def load(root: Path, download: bool, _: int) -> Parts:
        def part(train: bool) -> Labelled:
            dataset = kind(root, train=train, download=download, **options)
            return _arrays(dataset, "train" if train else "test")

        return Parts(part(True), test=part(False))

    return load


def _array_splits(kind: Callable[..., Any]) -> Load:
    def load(root: Path, download: bool, _: int) -> Parts:
        def part(split: str) -> Labelled:
            return _arrays(kind(root, split=split, download=download), split)

        return Parts(part("train"), test=part("test"))

    return load


def _file_splits(kind: Callable[..., Any], train: str, validation: str | None, test: str | None) -> Load:
    def load(root: Path, download: bool, max_pixels: int) -> Parts:
        def part(split: str | None) -> Labelled | None:
            if split is None:
                return None
            dataset = kind(root, split=split, download=download, loader=_path_loader)
            samples = [dataset[index] for index in range(len(dataset))]
            return _files(samples, dataset.classes, root, max_pixels)

        found = part(train)
        assert found is not None
        return Parts(found, part(validation), part(test))

    return load


def _eurosat(kind: Callable[..., Any]) -> Load:
    def load(root: Path, download: bool, max_pixels: int) -> Parts:
        dataset = kind(root, download=download)
        return Parts(_files(dataset.samples, dataset.classes, root, max_pixels))

    return load


def _oxford_pets(kind: Callable[..., Any]) -> Load:
    def load(root: Path, download: bool, max_pixels: int) -> Parts:
        def part(split: str) -> Labelled:
            dataset = kind(root, split=split, download=download)
            samples = list(zip(dataset._images, dataset._labels, strict=True))  # there is no public way to its paths
            return _files(samples, dataset.classes, root, max_pixels)

        return Parts(part("trainval"), test=part("test"))

    return load


# Each takes the module torchvision.datasets, which is slow to import and imported when one of them is wanted.
KNOWN: dict[str, Callable[[Any], Load]] = {
    "cifar10": lambda sets: _array_parts(sets.CIFAR10),
    "cifar100": lambda sets: _array_parts(sets.CIFAR100),
    "mnist": lambda sets: _array_parts(sets.MNIST),
    "fashion-mnist": lambda sets: _array_parts(sets.FashionMNIST),
    "kmnist": lambda sets: _array_parts(sets.KMNIST),
    "emnist": lambda sets: _array_parts(sets.EMNIST, split="balanced"),
    "usps": lambda sets: _array_parts(sets.USPS),
    "svhn": lambda sets: _array_splits(sets.SVHN),
    "stl10": lambda sets: _array_splits(sets.STL10),
    "flowers102": lambda sets: _file_splits(sets.Flowers102, "train", "val", "test"),
    "dtd": lambda sets: _file_splits(sets.DTD, "train", "val", "test"),
    "fgvc-aircraft": lambda sets: _file_splits(sets.FGVCAircraft, "train", "val", "test"),
    "country211": lambda sets: _file_splits(sets.Country211, "train", "valid", "test"),
    "food101": lambda sets: _file_splits(sets.Food101, "train", None, "test"),
    "imagenette": lambda sets: _file_splits(sets.Imagenette, "train", "val", None),
    "oxford-pets": lambda sets: _oxford_pets(sets.OxfordIIITPet),
    "eurosat": lambda sets: _eurosat(sets.EuroSAT),
}


def open_torchvision(name: str, root: Path | None, *, download: bool, max_pixels: int) -> Parts:
    """Open a data set by its name in `KNOWN`.

    Raises:
        DataError: it is not below the root, or damaged, or could not be downloaded.
        ResourceError: no root was named, and the user has no home that the usual one lies in.
    """
    from torchvision import datasets

    try:
        place = (root or CACHE).expanduser().resolve()
    except RuntimeError as error:
        raise ResourceError(f"{name}: there is no home folder for {CACHE}", hint="name one: --data.root DIR") from error
    try:
        if download:
            place.mkdir(parents=True, exist_ok=True)
        return KNOWN[name](datasets)(place, download, max_pixels)
    except HalftoneError:
        raise
    except Exception as error:  # each set has its own ways of being incomplete
        reason = " ".join(str(error).split()).rstrip(".").removesuffix(" You can use download=True to download it")
        hint = "check the network and try again" if download else "name its folder: --data.root DIR, or --data.download"
        raise DataError(f"{name} cannot be had from {place}: {reason}", hint=hint) from error
