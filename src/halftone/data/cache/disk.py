"""Pictures kept in files that any number of processes read and one at a time fills.

`pictures.bin` holds pixels, one picture after the other; `index.bin` has a record for each image of the set: where its
pixels are, their shape, and a checksum over both. A record is written after its pixels, so what is there is whole: a
process that is killed leaves at most some bytes that no record names. What a power cut tore shows in the checksum,
which each process compares once per picture.

Files are read, not mapped into memory: the kernel keeps their pages either way, and a file that becomes shorter under
a running process is a short read, which is handled, and not a signal, which is not.
"""

import errno
import fcntl
import os
import shutil
import struct
import threading
import weakref
import zlib
from pathlib import Path

import numpy as np

from halftone.data.labelled import Pixels

_RECORD = struct.Struct("<QIIIxxxxQ")
"""Offset, height, width, channels, checksum; all zero where there is no picture."""
_ASK_AGAIN = 256
"""Pictures decoded before a process asks again whether it may fill the cache now."""
_CHECK_DISK = 64 << 20
"""Bytes written between two looks at how much of the disk is free."""
LEAST_FREE = 2 << 30
"""Bytes of the disk that the cache leaves free."""


class DiskStore:
    """Pictures in a folder."""

    def __init__(self, folder: Path, num_images: int, most_bytes: int, held: int) -> None:
        """Open the folder for a set of so many images; `held` is what `place.hold` returned, and is closed with it.

        Raises:
            OSError: the files cannot be opened.
        """
        self._folder, self._most = folder, most_bytes
        self._lock = threading.Lock()
        self._index = os.open(folder / "index.bin", os.O_RDWR | os.O_CREAT, 0o666)
        self._pictures = os.open(folder / "pictures.bin", os.O_RDWR | os.O_CREAT, 0o666)
        self._writer = os.open(folder / "writer", os.O_RDWR | os.O_CREAT, 0o666)
        self._close = weakref.finalize(self, _close_all, held, self._index, self._pictures, self._writer)
        self._checked = np.zeros(num_images, dtype=bool)
        self._fills = False
        self._stopped = False
        self._asked = 0
        self._end = self._since_look = 0
        self._unread = 0
        self._remarks: list[str] = []

    def close(self) -> None:
        """Close the files, so that another process may fill them; the same happens when the store is forgotten."""
        self._close()

    def shape(self, number: int) -> tuple[int, int, int] | None:
        """Return [height, width, channels] of a picture, or None if it is not there."""
        record = self._record(number)
        return None if record is None else record[1:4]

    def rows(self, number: int, top: int, bottom: int) -> Pixels | None:
        """Return some rows of a picture that is there, or None if they cannot be read or are damaged."""
        record = self._record(number)
        if record is None:
            return None
        offset, height, width, channels, checksum = record
        if self._checked[number]:
            pixels = self._read(offset + top * width * channels, (bottom - top, width, channels))
        else:
            pixels = self._read(offset, (height, width, channels))
            if pixels is not None and _checksum(number, pixels) == checksum:
                self._checked[number] = True
                pixels = pixels[top:bottom]
            else:
                pixels = None
        if pixels is None:
            with self._lock:
                self._unread += 1
        return pixels

    def put(self, number: int, pixels: Pixels) -> None:
        """Keep a picture if this process is the one that fills the cache and there is room."""
        if not self._may_fill():
            return
        pixels = np.ascontiguousarray(pixels)
        try:
            offset = self._reserve(pixels.nbytes)
            _write(self._pictures, pixels.data.cast("B"), offset)
            record = _RECORD.pack(offset, *pixels.shape, _checksum(number, pixels))
            _write(self._index, memoryview(record), number * _RECORD.size)
        except OSError as error:
            with self._lock:
                if not self._stopped:
                    self._stopped = True
                    reason = error.strerror or str(error)
                    self._remarks.append(
                        f"the cache of pictures grows no further: {reason}; what is not in it is decoded"
                    )
            return
        self._checked[number] = True

    def _reserve(self, num_bytes: int) -> int:
        """Make the file longer and return where the new part begins.

        Raises:
            OSError: there is no room, or somebody made the file shorter. It is not filled again then: records would
                name bytes of other pictures.
        """
        with self._lock:
            if os.fstat(self._pictures).st_size < self._end:
                raise OSError(errno.EIO, f"its file was made shorter; {self._folder} may be deleted")
            look = self._since_look >= _CHECK_DISK
            if self._end + num_bytes > self._most or (look and shutil.disk_usage(self._pictures).free < LEAST_FREE):
                raise OSError(errno.ENOSPC, "no room is left for it")
            offset = self._end
            self._end += num_bytes
            self._since_look = num_bytes if look else self._since_look + num_bytes
            os.ftruncate(self._pictures, self._end)
            return offset

    def remarks(self) -> list[str]:
        """Return what went wrong since the last call, for people."""
        with self._lock:
            said, self._remarks = self._remarks, []
            count, self._unread = self._unread, 0
        if count:
            said.append(f"{count} pictures of the cache could not be read back and were decoded instead")
        return said

    def _may_fill(self) -> bool:
        """Tell whether this process fills the cache; ask for it now and then, as the one that does may have ended."""
        if self._fills or self._stopped:
            return not self._stopped
        with self._lock:
            self._asked += 1
            if self._fills or self._asked % _ASK_AGAIN != 1:
                return self._fills
            try:
                fcntl.flock(self._writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._end = max(os.fstat(self._pictures).st_size, self._named_end())
                self._fills = True
            except OSError:
                return False
            return True

    def _named_end(self) -> int:
        """Return where the last picture ends that the index names."""
        content = os.pread(self._index, _RECORD.size * len(self._checked), 0)
        records = _RECORD.iter_unpack(content[: len(content) // _RECORD.size * _RECORD.size])
        return max((offset + height * width * channels for offset, height, width, channels, _ in records), default=0)

    def _record(self, number: int) -> tuple[int, int, int, int, int] | None:
        try:
            found = os.pread(self._index, _RECORD.size, number * _RECORD.size)
        except OSError:
            return None
        if len(found) < _RECORD.size or not any(found):
            return None
        offset, height, width, channels, checksum = _RECORD.unpack(found)
        sound = 0 < height < 1 << 16 and 0 < width < 1 << 16 and channels in (1, 3)
        return (offset, height, width, channels, checksum) if sound else None

    def _read(self, offset: int, shape: tuple[int, int, int]) -> Pixels | None:
        pixels = np.empty(shape, dtype=np.uint8)
        try:
            count = os.preadv(self._pictures, [pixels.data.cast("B")], offset)
        except (OSError, OverflowError):
            return None
        return pixels if count == pixels.nbytes else None


def _checksum(number: int, pixels: Pixels) -> int:
    """Return the sum of the pixels, eight at a time as one number, and of what tells images and shapes apart.

    Any one change shows in it, and so do pages that were never written; it takes a tenth of the time of a CRC.
    """
    content = pixels.reshape(-1)
    whole = len(content) // 8 * 8
    total = int(np.add.reduce(content[:whole].view(np.uint64))) + int.from_bytes(content[whole:].tobytes(), "little")
    return (total + zlib.crc32(struct.pack("<QIII", number, *pixels.shape)) + 1) % 2**64


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    """Write all of it; a full disk may take a part of it only."""
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count
