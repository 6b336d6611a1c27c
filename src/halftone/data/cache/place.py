"""Where the caches of pictures lie: a folder for each set and each way of keeping it, removed when others need room."""

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from halftone.base.places import cache_folder
from halftone.data.cache.disk import LEAST_FREE
from halftone.data.labelled import Labelled, rooted
from halftone.data.sources.files import FileImages
from halftone.data.sources.hub import HubImages

_FORMAT = "2"
"""Changes whenever the same file is decoded to other pixels, or kept in another way."""
KEPT_DAYS = 30
"""A cache that no run used for so long is removed by the next run that keeps pictures."""
_SHARE = 0.5
"""All caches together take at most this share of what they take and what is free."""


def pictures_folder() -> Path:
    """Return the folder that holds the caches of pictures."""
    return cache_folder() / "pictures"


def identity(source: Labelled) -> str | None:
    """Return a text that changes when any image of a source may have changed; None where nothing tells.

    Of files, it is made of their names below the root, sizes and times of change; of a table of the hub, of the
    fingerprint that it carries. Arrays lie in memory already, and of a data set of Python nothing is known.
    """
    root, _ = rooted(source)
    hasher = hashlib.blake2b(digest_size=16)
    if isinstance(root, FileImages):
        for index, name in enumerate(root.paths):
            try:
                found = root.path(index).stat()
                facts = f"{found.st_size}\0{found.st_mtime_ns}"
            except OSError:
                facts = "absent"
            hasher.update(f"{name}\0{facts}\n".encode("utf-8", "surrogateescape"))
        hasher.update(str(root.max_pixels).encode())
    elif isinstance(root, HubImages):
        hasher.update(f"{root.table._fingerprint}|{root.column}|{root.max_pixels}".encode())
    else:
        return None
    return hasher.hexdigest()


def folder_for(mark: str, *settings: object) -> Path:
    """Return the folder of a set, by its identity, kept with some settings."""
    text = "|".join([_FORMAT, mark, *map(str, settings)])
    return pictures_folder() / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def hold(folder: Path) -> int:
    """Make a folder, mark it as used now, and keep it from being removed for as long as the descriptor is open.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "used", os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
        with suppress(OSError):  # somebody removed the folder between the two
            if (folder / "used").stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def make_room(keep: Path, wanted: int) -> int:
    """Remove caches that were not used for long, and the least recently used ones while there is too little room.

    Args:
        keep: the folder that is about to be used.
        wanted: bytes that it may come to.

    Returns:
        The bytes that it may take.

    Raises:
        OSError: the disk says nothing of itself.
    """
    others = sorted((path for path in keep.parent.iterdir() if path != keep), key=_last_used)
    own = _size(keep)
    taken = own + sum(_size(path) for path in others)
    room = shutil.disk_usage(keep.parent).free + taken
    most = int(_SHARE * room)
    for path in others:
        expired = time.time() - _last_used(path) > KEPT_DAYS * 86400
        if not (expired or taken - own + wanted > most):
            continue
        size = _size(path)
        if _remove(path):
            taken -= size
    return max(0, min(most - (taken - own), room - taken + own - LEAST_FREE))


def _last_used(folder: Path) -> float:
    try:
        return (folder / "used").stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for name in ("index.bin", "pictures.bin"):
        with suppress(OSError):
            total += (folder / name).stat().st_blocks * 512
    return total


def _remove(folder: Path) -> bool:
    """Remove a cache unless a process holds it."""
    try:
        descriptor = os.open(folder / "used", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
