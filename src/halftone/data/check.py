"""Looking closely: every image decoded in full, because headers and `verify()` let broken files pass."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from halftone.base.errors import UnreadableImage
from halftone.data.labelled import Labelled, in_memory
from halftone.data.split import content_digests
from halftone.data.survey import Fault


@dataclass(slots=True)
class PartCheck:
    """What a full look at one part found."""

    part: str
    num_images: int = 0
    faults: list[Fault] = field(default_factory=list)
    num_gray: int = 0
    sides: list[tuple[int, int]] = field(default_factory=list)
    """Height and width of each image that can be read."""
    per_class: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copies:
    """Images with the same content."""

    names: tuple[str, ...]
    parts: tuple[str, ...]
    """The parts they lie in."""
    labels: tuple[str, ...]
    """The classes they carry; more than one is a contradiction."""


def check_part(name: str, source: Labelled, *, workers: int) -> Iterator[PartCheck]:
    """Decode every image; yield the same growing account after each, so that progress can be shown."""
    check = PartCheck(name)
    counts = np.bincount(source.labels, minlength=len(source.classes))
    check.per_class = {label: int(count) for label, count in zip(source.classes, counts, strict=True)}

    def see(index: int) -> Fault | tuple[int, int, bool]:
        try:
            pixels = source.pixels(index)
        except UnreadableImage as error:
            return Fault(index, source.name(index), str(error))
        gray = pixels.shape[2] == 1 or bool(
            (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
        )
        return pixels.shape[0], pixels.shape[1], gray

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for seen in pool.map(see, range(len(source.labels))):
            check.num_images += 1
            if isinstance(seen, Fault):
                check.faults.append(seen)
            else:
                height, width, gray = seen
                check.sides.append((height, width))
                check.num_gray += gray
            yield check


def decode_faults(source: Labelled, *, workers: int) -> tuple[Fault, ...]:
    """Return the images that cannot be decoded."""
    if in_memory(source):
        return ()
    check = PartCheck("")
    for found in check_part("", source, workers=workers):
        check = found
    return tuple(check.faults)


def find_copies(parts: Sequence[tuple[str, Labelled]], *, workers: int) -> list[Copies]:
    """Return the groups of images with equal content, within and across parts."""
    where: dict[bytes, list[tuple[str, str, str]]] = defaultdict(list)
    for part, source in parts:
        digests = content_digests(source, workers=workers)
        for index, (digest, label) in enumerate(zip(digests, source.labels, strict=True)):
            where[bytes(digest)].append((source.name(index), part, source.classes[label]))
    return [
        Copies(
            tuple(name for name, _, _ in group),
            tuple(sorted({part for _, part, _ in group})),
            tuple(sorted({label for _, _, label in group})),
        )
        for group in where.values()
        if len(group) > 1
    ]
