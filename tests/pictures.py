"""Pictures as bytes and as files, of every kind that a folder may hold."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Pixels:
    """Random pixels, [height, width, channels]: no two positions are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def slope(height: int, width: int) -> Pixels:
    """A smooth colour picture without symmetry, [height, width, 3], that lossy formats keep."""
    down, right = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    return np.rint(np.stack([40 + 180 * right, 40 + 180 * down, 220 - 120 * right * down], 2)).astype(np.uint8)


def encoded(picture: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image file's bytes."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, rows: bytes | None = None) -> bytes:
    """A PNG made by hand, of any claimed size; without rows it is a header and an empty body."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(b"" if rows is None else rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*part) for part in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write(path: Path, picture: Pixels | bytes | None = None, **options: Any) -> Path:
    """Write an image file, a small one if none is given, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture is None:
        picture = noise(4, 4, seed=zlib.crc32(str(path).encode("utf-8", "surrogateescape")))
    path.write_bytes(picture if isinstance(picture, bytes) else encoded(picture, **options))
    return path
