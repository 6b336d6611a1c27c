"""From the settings to a cache that is ready for use."""

import os
from typing import Literal

from halftone.base.inputs import InputSpec
from halftone.data.cache.disk import DiskStore
from halftone.data.cache.kept import KeptPictures, Store, kept_bytes, kept_side
from halftone.data.cache.memory import MemoryStore, NoStore
from halftone.data.cache.place import folder_for, hold, identity, make_room
from halftone.data.labelled import Labelled, rooted

_USUAL = (3000, 4000)
"""Height and width of a photo from a camera; kept pictures are no larger than what is made of it."""


def open_cache(
    kind: Literal["ram", "disk"],
    source: Labelled,
    spec: InputSpec,
    area: tuple[float, float] | None,
    *,
    free_memory: int,
) -> KeptPictures:
    """Open the cache of a source.

    Where it cannot be had, pictures are decoded each time, to the same pixels, and the first of the remarks says why.

    Args:
        kind: in memory or on disk.
        source: the images.
        spec: what the network expects.
        area: the range of the random crops' share of the area, if there are any.
        free_memory: bytes; half of them may be taken.
    """
    side = kept_side(spec.size, area)
    store: Store = MemoryStore(free_memory // 2) if kind == "ram" else _on_disk(source, spec, side)
    return KeptPictures(source, spec, store, side)


def _on_disk(source: Labelled, spec: InputSpec, side: int | None) -> Store:
    mark = identity(source)
    if mark is None:
        return NoStore("pictures are not kept: nothing tells this data set from another one")
    shape = (side,) if side is not None else (spec.size, spec.fit, spec.crop)
    folder = folder_for(mark, *shape, spec.channels, spec.interpolation)
    num_images = len(rooted(source)[0].labels)
    wanted = kept_bytes(num_images, *_USUAL, spec=spec, side=side)
    try:
        held = hold(folder)
        try:
            return DiskStore(folder, num_images, make_room(folder, wanted), held)
        except BaseException:
            os.close(held)
            raise
    except OSError as error:
        return NoStore(
            f"pictures are not kept: {folder}: {error.strerror or error}; HALFTONE_CACHE names another place"
        )
