"""A map-style data set of Python: `dataset[i]` is an image and a label."""

import operator
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch.utils.data import Subset as TorchSubset

from halftone.base.errors import DataError, UnreadableImage
from halftone.data.decode import look_of, pixels_of
from halftone.data.labelled import Labelled, Labels, Look, Parts, Pixels
from halftone.data.sources.arrays import as_array, class_names, from_arrays

_BROKEN = (OSError, ValueError, EOFError, SyntaxError, struct.error, Image.DecompressionBombError)
"""What decoders raise for a damaged file. Anything else is a fault of the program and passes."""


class MapStyle(Protocol):
    """What torch and torchvision call a map-style data set."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Any:
        """Return an image (Pillow, array or tensor) and a whole number."""


@dataclass(frozen=True, slots=True)
class DatasetImages:
    """A labelled source over a map-style data set; its items are read from several threads."""

    dataset: MapStyle
    labels: Labels
    classes: tuple[str, ...]
    prefix: str = "item"

    @property
    def array(self) -> None:
        """The data set decides where its images lie."""
        return None

    def pixels(self, index: int) -> Pixels:
        """Read one image and bring it to uint8."""
        return _uint8(self._image(index))

    def encoded(self, index: int) -> None:
        """What the data set gives is decoded already."""

    def look(self, index: int) -> Look:
        """Read one image to learn its shape."""
        image = self._image(index)
        if isinstance(image, Image.Image):
            return look_of(image)
        pixels = _uint8(image)
        return Look(pixels.shape[0], pixels.shape[1], pixels.shape[2] == 1)

    def content(self, index: int) -> bytes:
        """Return the decoded pixels of one image."""
        pixels = self.pixels(index)
        return str(pixels.shape).encode() + pixels.tobytes()

    def name(self, index: int) -> str:
        """Name one image by its position."""
        return f"{self.prefix}-{index:05d}"

    def _image(self, index: int) -> Any:
        try:
            return self.dataset[index][0]
        except _BROKEN as error:
            raise UnreadableImage(" ".join(str(error).split()) or type(error).__name__) from error


def _uint8(image: Any) -> Pixels:
    if isinstance(image, Image.Image):
        return pixels_of(image)
    try:
        return from_arrays(as_array(image)[None], np.zeros(1, dtype=np.int64)).images[0]
    except DataError as error:
        raise UnreadableImage(f"{error} ({error.hint})" if error.hint else str(error)) from error


def open_given(given: Any) -> Parts:
    """Take what was passed in Python: one data set, or a pair of training and validation.

    Each may be a map-style data set, a labelled source of halftone's, or a pair `(images, labels)` of arrays.

    Raises:
        DataError: none of these.
    """
    if isinstance(given, Parts):
        return given
    if isinstance(given, tuple) and len(given) == 2 and not _is_pair(given):
        return Parts(_open_one(given[0], "train"), _open_one(given[1], "validation"))
    return Parts(_open_one(given, "item"))


def _is_pair(value: Any) -> bool:
    """Tell a pair (images, labels) from a pair of data sets: its second member is a row of numbers."""
    second = value[1]
    if isinstance(second, list | tuple):
        return len(second) > 0 and all(isinstance(number, int | np.integer) for number in second)
    return hasattr(second, "shape") and hasattr(second, "dtype") and len(second.shape) <= 2


def _open_one(given: Any, prefix: str) -> Labelled:
    if all(hasattr(given, name) for name in ("pixels", "labels", "classes", "content", "encoded")):
        return given
    if isinstance(given, tuple) and len(given) == 2 and _is_pair(given):
        return from_arrays(given[0], given[1], prefix=prefix)
    is_array = hasattr(given, "shape") and hasattr(given, "dtype")
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not is_array:
        labels = _labels(given)
        return DatasetImages(given, labels, _classes(given, labels), prefix)
    raise DataError(
        f"data of type {type(given).__name__}{' without labels' if is_array else ''}",
        hint="give a map-style data set, a pair (images, labels) of arrays, or a pair (training, validation) of these",
    )


def _labels(dataset: Any) -> Labels:
    """Return all labels, where possible without reading the images."""
    if isinstance(dataset, TorchSubset):
        return _labels(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    if getattr(dataset, "target_transform", None) is None:
        for name in ("targets", "labels"):
            found = getattr(dataset, name, None)
            if isinstance(found, Collection) and len(found) == len(dataset):
                numbers = as_array(found)
                if numbers.ndim == 1 and numbers.dtype.kind in "iu":
                    return numbers.astype(np.int64)
    return np.array([_label(dataset, index) for index in range(len(dataset))], dtype=np.int64)


def _label(dataset: MapStyle, index: int) -> int:
    try:
        label = dataset[index][1]
        return operator.index(label)
    except Exception as error:  # somebody else's code
        raise DataError(
            f"item {index} of the data set has no label: {type(error).__name__}: {error}",
            hint="an item is an image and a whole number; a data set with `targets` is not read for its labels",
        ) from error


def _classes(dataset: Any, labels: Labels) -> tuple[str, ...]:
    if len(labels) == 0:
        raise DataError("the data set is empty")
    while isinstance(dataset, TorchSubset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if isinstance(names, Collection) and len(names) > labels.max():
        return tuple(str(name) for name in names)
    return class_names(labels)
