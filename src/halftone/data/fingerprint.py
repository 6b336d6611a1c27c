"""A short text that changes when the data changes."""

import hashlib

import numpy as np

from halftone.data.labelled import Labelled, Parts, Relabelled
from halftone.data.sources.files import FileImages


def fingerprint(parts: Parts) -> str:
    """Return 16 hexadecimal digits over classes, labels, and the pixels (in memory) or names and sizes (files).

    Of a data set of the hub or of Python only the classes and the labels are known without reading all of it.
    """
    hasher = hashlib.blake2b(digest_size=8)
    for part in (parts.train, parts.validation, parts.test):
        if part is not None:
            _add(hasher, part)
        hasher.update(b"|")
    return hasher.hexdigest()


def _add(hasher: "hashlib.blake2b", source: Labelled) -> None:
    hasher.update("\0".join(source.classes).encode("utf-8", "surrogateescape"))
    hasher.update(source.labels.tobytes())
    while isinstance(source, Relabelled):
        source = source.source
    if source.array is not None:
        hasher.update(f"|{source.array.shape}|".encode())
        hasher.update(np.ascontiguousarray(source.array).reshape(-1).data)
    elif isinstance(source, FileImages):
        for index, path in enumerate(source.paths):
            try:
                size = source.path(index).stat().st_size
            except OSError:
                size = -1
            hasher.update(f"{path}\0{size}\n".encode("utf-8", "surrogateescape"))
