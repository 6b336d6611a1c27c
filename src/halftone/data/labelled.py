"""Images with labels: the one shape that every source takes, and the ways to take a part of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A decoded picture, [height, width, channels], RGB or one gray channel."""
Labels = npt.NDArray[np.int64]
"""Class numbers, [images]."""


class Look(NamedTuple):
    """What is known of a picture before it is decoded."""

    height: int
    width: int
    gray: bool
    kind: str = ""
    """The format of the file by its content; empty if there is no file."""
    frames: bool = False
    """Whether there are more frames than the first one, which is used."""


class Encoded(NamedTuple):
    """An image file as it is stored."""

    content: bytes
    max_pixels: int
    """Pictures with more pixels are refused."""


class Labelled(Protocol):
    """Images with labels, readable in any order and from any thread."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position in this tuple."""

    @property
    def labels(self) -> Labels:
        """The label of every image, [images]."""

    @property
    def array(self) -> Pixels | None:
        """All images as one array, [images, height, width, channels], where they already lie in memory."""

    def pixels(self, index: int) -> Pixels:
        """Decode one image.

        Raises:
            UnreadableImage: it cannot be decoded.
        """

    def encoded(self, index: int) -> Encoded | None:
        """Return one image as a file, of which no more is decoded than is wanted; None where there is no file.

        Raises:
            UnreadableImage: the file cannot be read.
        """

    def look(self, index: int) -> Look:
        """Return what one image's header says.

        Raises:
            UnreadableImage: it is not an image, or too large.
        """

    def content(self, index: int) -> bytes:
        """Return bytes that are equal for equal images: a file as it lies on disk, or raw pixels."""

    def name(self, index: int) -> str:
        """Name one image for people: its path, or its number."""


@dataclass(frozen=True, slots=True)
class Subset:
    """Some images of a source, in the order given."""

    whole: Labelled
    indices: npt.NDArray[np.int64]
    labels: Labels = field(init=False)
    """The labels of the chosen images."""

    def __post_init__(self) -> None:
        """Gather the labels once."""
        object.__setattr__(self, "labels", self.whole.labels[self.indices])

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the whole."""
        return self.whole.classes

    @property
    def array(self) -> Pixels | None:
        """The chosen images as one array, where the whole has one."""
        whole = self.whole.array
        return None if whole is None else whole[self.indices]

    def pixels(self, index: int) -> Pixels:
        """Decode the image at a position of the subset."""
        return self.whole.pixels(int(self.indices[index]))

    def encoded(self, index: int) -> Encoded | None:
        """Return the file of the image at a position of the subset."""
        return self.whole.encoded(int(self.indices[index]))

    def look(self, index: int) -> Look:
        """Return the header of the image at a position of the subset."""
        return self.whole.look(int(self.indices[index]))

    def content(self, index: int) -> bytes:
        """Return the identifying bytes of the image at a position of the subset."""
        return self.whole.content(int(self.indices[index]))

    def name(self, index: int) -> str:
        """Name the image at a position of the subset."""
        return self.whole.name(int(self.indices[index]))


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A source whose classes are numbered as in another list, matched by name."""

    source: Labelled
    classes: tuple[str, ...]
    """Every class that occurs in the source must be among these."""

    @property
    def labels(self) -> Labels:
        """The labels as positions in the new list."""
        places = {name: number for number, name in enumerate(self.classes)}
        table = np.array([places.get(name, -1) for name in self.source.classes], dtype=np.int64)
        return table[self.source.labels]

    @property
    def array(self) -> Pixels | None:
        """The images as one array, where the source has one."""
        return self.source.array

    def pixels(self, index: int) -> Pixels:
        """Decode one image."""
        return self.source.pixels(index)

    def encoded(self, index: int) -> Encoded | None:
        """Return one image as a file."""
        return self.source.encoded(index)

    def look(self, index: int) -> Look:
        """Return one image's header."""
        return self.source.look(index)

    def content(self, index: int) -> bytes:
        """Return the identifying bytes of one image."""
        return self.source.content(index)

    def name(self, index: int) -> str:
        """Name one image."""
        return self.source.name(index)


class LeftOut(NamedTuple):
    """Something that lies among the images and is not taken for one."""

    name: str
    reason: str
    meant: bool
    """Whether it is called as images are, so that somebody may miss it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a source brings. What is None it does not have."""

    train: Labelled
    validation: Labelled | None = None
    test: Labelled | None = None
    notes: tuple[str, ...] = ()
    """What was ignored, assumed or noticed while opening, for people."""
    left_out: tuple[LeftOut, ...] = ()
    """Each file of a folder that was ignored."""


def in_memory(source: Labelled) -> bool:
    """Tell whether a source has its images in one array, without copying the chosen part of it to find out."""
    while isinstance(source, Subset | Relabelled):
        source = source.whole if isinstance(source, Subset) else source.source
    return source.array is not None


def rooted(source: Labelled) -> tuple[Labelled, npt.NDArray[np.int64]]:
    """Return the source that a part was taken of, and the numbers there of the images of the part."""
    numbers = np.arange(len(source.labels))
    while isinstance(source, Subset | Relabelled):
        if isinstance(source, Subset):
            numbers, source = source.indices[numbers], source.whole
        else:
            source = source.source
    return source, numbers


def without(source: Labelled, dropped: Sequence[int]) -> Labelled:
    """Return the source without the images at the positions given."""
    if not dropped:
        return source
    keep = np.setdiff1d(np.arange(len(source.labels)), np.asarray(dropped, dtype=np.int64))
    return Subset(source, keep)
