"""Hold images out for validation: stratified, and decided by the content of each image alone."""

import hashlib

import numpy as np
import numpy.typing as npt

from halftone.base.errors import UnreadableImage
from halftone.data.labelled import Labelled, Subset
from halftone.data.reading import TIMEOUT, Readers


def hold_out(
    source: Labelled, share: float, *, seed: int, workers: int = 1, timeout: float = TIMEOUT
) -> tuple[Subset, Subset]:
    """Split a source into a part for training and a part for validation.

    In each class the images are put in the order of a hash of their content, and the first ones are held out.
    So the split survives renaming, reordering and copying the set, adding images moves few others, and equal
    images of a class always lie on the same side. A class of one image, or of copies of one, stays in training.

    Args:
        source: the images.
        share: the part of each class to hold out, rounded to whole images, at least one where there are two.
        seed: another number, below 2**63, gives another split.
        workers: threads that read the images.
        timeout: seconds that one image may take; 0 is no limit.

    Returns:
        Training and validation, each in the source's order.
    """
    digests = content_digests(source, workers=workers, salt=seed, timeout=timeout)
    labels = source.labels
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        wanted = min(max(1, round(share * len(members))), len(members) - 1)
        ordered = members[np.argsort(digests[members], kind="stable")]
        held[ordered[: _cut(digests[ordered], wanted)]] = True
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def _cut(ordered: npt.NDArray[np.bytes_], wanted: int) -> int:
    """Return how many of the sorted hashes to hold out: equal ones together, as long as one stays in training."""
    cut = int(np.searchsorted(ordered, ordered[wanted - 1], side="right"))
    return cut if cut < len(ordered) else int(np.searchsorted(ordered, ordered[-1], side="left"))


def content_digests(
    source: Labelled, *, workers: int, salt: int = 0, timeout: float = TIMEOUT
) -> npt.NDArray[np.bytes_]:
    """Return a hash of every image's content, [images]; an image that cannot be read counts by its name."""

    def digest(index: int) -> bytes:
        hasher = hashlib.blake2b(digest_size=16, salt=salt.to_bytes(8, "big", signed=True))
        try:
            hasher.update(source.content(index))
        except UnreadableImage:
            hasher.update(source.name(index).encode("utf-8", "surrogateescape"))
        return hasher.hexdigest().encode()

    with Readers(workers, timeout=timeout, name=source.name) as readers:
        return np.array(list(readers.map(digest, range(len(source.labels)))))
