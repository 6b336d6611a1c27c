"""Looking closely: every image read and decoded once, in full, because headers and `verify()` let broken files pass."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from halftone.base.errors import UnreadableImage
from halftone.data.examine import Examined, examine
from halftone.data.labelled import Labelled, in_memory
from halftone.data.look_alike import SIDE, Thumbnails, thumbnail
from halftone.data.reading import TIMEOUT, Readers
from halftone.data.sources.files import expected_kind
from halftone.data.survey import Fault


@dataclass(slots=True)
class PartCheck:
    """What a full look at one part found. Arrays have a row for each image, zero where it cannot be read."""

    part: str
    source: Labelled
    num_images: int = 0
    """That were looked at so far."""
    faults: list[Fault] = field(default_factory=list)
    """What cannot be read."""
    suspects: list[Fault] = field(default_factory=list)
    """What can be read, with a complaint of the decoder: bits of it are probably wrong."""
    renamed: list[Fault] = field(default_factory=list)
    """Files of another format than their name says. They are read by their content."""
    animated: list[Fault] = field(default_factory=list)
    """Files of several frames. The first is used."""
    num_gray: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    """Images of each of Pillow's modes."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Files of each format."""
    sides: npt.NDArray[np.int32] = field(init=False)
    """Height and width in pixels, [images, 2]."""
    digests: list[bytes] = field(init=False)
    """Of the decoded pixels; empty where there are none."""
    thumbnails: Thumbnails = field(init=False)

    def __post_init__(self) -> None:
        """Make room."""
        count = len(self.source.labels)
        self.sides = np.zeros((count, 2), dtype=np.int32)
        self.digests = [b""] * count
        self.thumbnails = np.zeros((count, SIDE, SIDE), dtype=np.uint8)

    @property
    def per_class(self) -> dict[str, int]:
        """Images of each class, readable or not."""
        counts = np.bincount(self.source.labels, minlength=len(self.source.classes))
        return {label: int(count) for label, count in zip(self.source.classes, counts, strict=True)}

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """Which images can be read, [images]."""
        return self.sides[:, 0] > 0

    def add(self, index: int, seen: "_Sketch | Fault") -> None:
        """Take in what was seen of an image."""
        self.num_images += 1
        if isinstance(seen, Fault):
            self.faults.append(seen)
            return
        name = self.source.name(index)
        self.sides[index], self.digests[index], self.thumbnails[index] = seen.shape, seen.digest, seen.thumbnail
        self.num_gray += seen.gray
        self.modes[seen.mode] += 1
        if seen.complaint:
            self.suspects.append(Fault(index, name, seen.complaint))
        if seen.kind:
            self.kinds[seen.kind] += 1
            expected = expected_kind(name, seen.kind)
            if expected != seen.kind:
                self.renamed.append(Fault(index, name, f"it is {seen.kind}, not {expected}"))
        if seen.frames:
            self.animated.append(Fault(index, name, "it has several frames"))


@dataclass(frozen=True, slots=True)
class _Sketch:
    """What is kept of an image, instead of its pixels; see `Examined`."""

    mode: str
    kind: str
    complaint: str
    frames: bool
    shape: tuple[int, int]
    gray: bool
    digest: bytes
    thumbnail: npt.NDArray[np.uint8]


def check_part(name: str, source: Labelled, *, workers: int, timeout: float = TIMEOUT) -> Iterator[PartCheck]:
    """Decode every image; yield the same growing account after each, so that progress can be shown.

    Raises:
        ResourceError: an image takes longer than `timeout` seconds; it is named.
    """
    check = PartCheck(name, source)

    def see(index: int) -> "_Sketch | Fault":
        try:
            return _sketch(examine(source, index))
        except UnreadableImage as error:
            return Fault(index, source.name(index), str(error))

    with Readers(workers, timeout=timeout, name=source.name) as readers:
        for index, seen in enumerate(readers.map(see, range(len(source.labels)))):
            check.add(index, seen)
            yield check


def decode_faults(source: Labelled, *, workers: int, timeout: float = TIMEOUT) -> tuple[Fault, ...]:
    """Return the images that cannot be decoded."""
    if in_memory(source):
        return ()

    def see(index: int) -> Fault | None:
        try:
            examine(source, index)
        except UnreadableImage as error:
            return Fault(index, source.name(index), str(error))
        return None

    with Readers(workers, timeout=timeout, name=source.name) as readers:
        return tuple(fault for fault in readers.map(see, range(len(source.labels))) if fault is not None)


def _sketch(found: Examined) -> _Sketch:
    pixels = found.pixels
    hasher = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    hasher.update(pixels.reshape(-1).data)
    return _Sketch(
        mode=found.mode,
        kind=found.kind,
        complaint=found.complaint,
        frames=found.frames,
        shape=(pixels.shape[0], pixels.shape[1]),
        gray=pixels.shape[2] == 1,
        digest=hasher.digest(),
        thumbnail=thumbnail(pixels),
    )
