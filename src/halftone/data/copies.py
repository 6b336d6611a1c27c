"""Images that are there more than once: equal in their pixels, or so like each other that one gives the other away."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Literal

import numpy as np

from halftone.data.check import PartCheck
from halftone.data.look_alike import look_alikes

_TRIED = 8
"""Of equal images, those that may stand for them in a pair."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies, and what it is called."""

    part: str
    index: int
    """In its part."""
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Copies:
    """Images with the same content: any number of equal ones, or two that look alike."""

    kind: Literal["equal", "alike"]
    images: tuple[Place, ...]
    likeness: float = 1.0
    """How much they look alike, up to 1; see `look_alike`."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts they lie in; more than one is a leak."""
        return tuple(sorted({place.part for place in self.images}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes they carry; more than one is a contradiction."""
        return tuple(sorted({place.label for place in self.images}))

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(place.name for place in self.images)


def find_copies(checks: Sequence[PartCheck], *, alike: bool = True) -> list[Copies]:
    """Return the images that are there more than once, within and across parts.

    Args:
        checks: of the parts, each finished.
        alike: also look for pairs that look alike. Images that are equal are taken as one there.

    Returns:
        Groups of equal images, then pairs that look alike, the likest first.
    """
    contents = _by_content(checks)
    equal = [Copies("equal", tuple(places)) for places in contents if len(places) > 1]
    if not alike or len(contents) < 2:
        return equal
    of_part = {check.part: check.thumbnails for check in checks}
    pairs = look_alikes(np.stack([of_part[places[0].part][places[0].index] for places in contents]))
    found = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.likeness.tolist(), strict=True)
    return equal + [
        Copies("alike", _most_telling(contents[first], contents[second]), round(likeness, 4))
        for first, second, likeness in found
    ]


def leaked(copies: Iterable[Copies], part: str) -> int:
    """Return how many images of a part have a copy in another one."""
    across = [group for group in copies if len(group.parts) > 1]
    return len({place.index for group in across for place in group.images if place.part == part})


def _by_content(checks: Sequence[PartCheck]) -> list[list[Place]]:
    """Return the images with the same pixels together, in the order in which they first occur."""
    contents: dict[bytes, list[Place]] = defaultdict(list)
    for check in checks:
        source = check.source
        classes, labels = source.classes, source.labels.tolist()
        for index, (digest, label) in enumerate(zip(check.digests, labels, strict=True)):
            if digest:
                contents[digest].append(Place(check.part, index, source.name(index), classes[label]))
    return list(contents.values())


def _most_telling(first: Sequence[Place], second: Sequence[Place]) -> tuple[Place, Place]:
    """Choose two images to stand for a pair: of different parts and labels, if there are such."""
    pairs = product(islice(first, _TRIED), islice(second, _TRIED))
    return max(pairs, key=lambda pair: (pair[0].part != pair[1].part) + (pair[0].label != pair[1].label))
