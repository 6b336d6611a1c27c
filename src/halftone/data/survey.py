"""A look at the headers of the images before anything is decided: sizes, gray or colour, files that are broken."""

from dataclasses import dataclass

import numpy as np

from halftone.base.errors import UnreadableImage
from halftone.data.labelled import Labelled, Look, in_memory
from halftone.data.reading import TIMEOUT, Readers
from halftone.data.sources.files import expected_kind

LOOK_AT_MOST = 20_000
SAMPLE = 2_000


@dataclass(frozen=True, slots=True)
class Fault:
    """An image that cannot be read, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What the headers say."""

    num_images: int
    num_seen: int
    """All images, or an evenly spaced sample of a large set."""
    median_side: int
    """The median of the shorter sides, pixels."""
    uniform: tuple[int, int] | None
    """The height and width that all seen images share, or None."""
    gray_share: float
    faults: tuple[Fault, ...]
    renamed: tuple[str, ...] = ()
    """Seen files of another format than their names say."""
    animated: tuple[str, ...] = ()
    """Seen files of several frames."""

    @property
    def complete(self) -> bool:
        """Whether every image was looked at."""
        return self.num_seen == self.num_images


def survey(source: Labelled, *, workers: int, timeout: float = TIMEOUT) -> Survey:
    """Look at the header of each image, or of a sample if there are many.

    Raises:
        ResourceError: one takes longer than `timeout` seconds.
    """
    num_images = len(source.labels)
    count = num_images if num_images <= LOOK_AT_MOST else SAMPLE
    whole = in_memory(source)
    if whole:
        count = min(count, 1)  # all share one shape
    indices = np.linspace(0, num_images - 1, count).astype(int)

    def see(index: int) -> Look | Fault:
        try:
            return source.look(index)
        except UnreadableImage as error:
            return Fault(index, source.name(index), str(error))

    with Readers(workers, timeout=timeout, name=source.name) as readers:
        seen = list(readers.map(see, indices.tolist()))
    looks = [item for item in seen if isinstance(item, Look)]
    named = [
        (source.name(index), item)
        for index, item in zip(indices.tolist(), seen, strict=True)
        if isinstance(item, Look) and item.kind
    ]
    shapes = {(item.height, item.width) for item in looks}
    return Survey(
        num_images=num_images,
        num_seen=num_images if whole else count,
        median_side=int(np.median([min(item.height, item.width) for item in looks])) if looks else 0,
        uniform=shapes.pop() if len(shapes) == 1 else None,
        gray_share=float(np.mean([item.gray for item in looks])) if looks else 0.0,
        faults=tuple(item for item in seen if isinstance(item, Fault)),
        renamed=tuple(name for name, item in named if item.kind != expected_kind(name, item.kind)),
        animated=tuple(name for name, item in named if item.frames),
    )
