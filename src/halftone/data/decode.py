"""Bytes to pixels: one answer for every format, mode and orientation.

The rules, the same in training, evaluation and prediction:

| picture | becomes |
|---|---|
| gray, 1-bit | the same value in R, G and B |
| palette | its colours |
| transparent in any way | composited over white |
| CMYK | converted to RGB |
| 16 bits per channel | the upper 8 bits (a plain conversion would clip to white) |
| 32-bit integers | read as 8 bits if they fit, as 16 bits if they fit, otherwise refused |
| floating point | read as [0, 1] if it lies there, as [0, 255] if it lies there, otherwise refused |
| EXIF orientation | applied; other metadata, even damaged, is ignored |
| several frames | the first |

Where a network needs only a part of a picture, or little of its resolution, `cut` decodes no more than that.

A file is judged by its content: its extension does not matter. Bits that rotted into another valid picture cannot be
noticed here.
"""

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from halftone.base.errors import UnreadableImage
from halftone.data.labelled import Look, Pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF")
"""The formats that are tried. JPEG includes the MPO of many phones and cameras."""
MAX_PIXELS = 100_000_000
_SAME_KIND = {"MPO": "JPEG", "DIB": "BMP"}
_PAGES = frozenset({"GIF", "WEBP", "PNG", "TIFF", "AVIF"})
"""Formats in which further frames are pictures of their own; in MPO they are a camera's previews."""
_INTEGERS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GRAY = ("1", "L", "LA", "La", "F", *_INTEGERS)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation; from 5 on, height and width change places."""

# Pillow's own limit warns, and only past 89 megapixels: ours is an error and is checked before it.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a picture to RGB.

    Args:
        data: the content of an image file.
        max_pixels: pictures with more pixels are refused from their header, before memory is taken.

    Returns:
        uint8 [height, width, 3], the right way up.

    Raises:
        UnreadableImage: not an image, damaged, of a format that is not read, empty or too large.
    """
    with opened(data, max_pixels=max_pixels) as picture:
        return pixels_of(picture)


@contextmanager
def opened(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture without decoding it; what goes wrong within the context is an image that cannot be read.

    Raises:
        UnreadableImage: as for `decode`.
    """
    with _faults(), _open(io.BytesIO(data), max_pixels) as picture:
        yield picture


def decode_file(path: Path, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read and decode an image file; see `decode`."""
    return decode(read_file(path), max_pixels=max_pixels)


def pixels_of(picture: Image.Image) -> Pixels:
    """Convert an opened picture by the rules above.

    Returns:
        uint8 [height, width, 3].

    Raises:
        UnreadableImage: damaged, or of a kind that has no rule.
    """
    with _faults():
        picture.load()
        turn = _UPRIGHT.get(orientation(picture))
        return _rgb(picture if turn is None else picture.transpose(turn))


def look(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Look:
    """Read a picture's header only.

    Returns:
        Height and width in pixels as they will be after EXIF orientation, and whether it is gray.

    Raises:
        UnreadableImage: as for `decode`, for what the header already shows.
    """
    with opened(data, max_pixels=max_pixels) as picture:
        return look_of(picture)


def look_at_file(path: Path, *, max_pixels: int = MAX_PIXELS) -> Look:
    """Read an image file's header, and no more of the file than that; see `look`."""
    with _faults():
        _refuse_other_than_files(path.stat().st_mode)
        with path.open("rb") as file, _open(file, max_pixels) as picture:
            return look_of(picture)


def look_of(picture: Image.Image) -> Look:
    """Return what is known of an opened picture without its pixels."""
    width, height = picture.size
    if orientation(picture) >= 5 and picture.format != "TIFF":  # whose size Pillow has already turned
        width, height = height, width
    return Look(height, width, picture.mode in _GRAY, format_of(picture), has_frames(picture))


def format_of(picture: Image.Image) -> str:
    """Return the format of an opened picture; empty if it comes from no file."""
    kind = picture.format or ""
    return _SAME_KIND.get(kind, kind)


def has_frames(picture: Image.Image) -> bool:
    """Tell whether an opened picture has further ones behind the first; damaged ones are none."""
    try:
        return picture.format in _PAGES and bool(getattr(picture, "is_animated", False))
    except Exception:  # the first may be sound nevertheless
        return False


def read_file(path: Path) -> bytes:
    """Read a file, reporting a fault as an image that cannot be read.

    Raises:
        UnreadableImage: missing, forbidden, or not a regular file (a pipe would block the reader).
    """
    with _faults():
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(file)
            _refuse_other_than_files(status.st_mode)
            content = os.read(file, status.st_size)
            while len(content) < status.st_size and (more := os.read(file, status.st_size - len(content))):
                content += more
            return content
        finally:
            os.close(file)


def _refuse_other_than_files(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UnreadableImage("it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")


@contextmanager
def _faults() -> Iterator[None]:
    """Report whatever goes wrong as an image that cannot be read: decoders raise what their author chose."""
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("it is not an image of a known format") from error
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UnreadableImage(" ".join(said.split()) or type(error).__name__) from error


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    if not file.read(1):
        raise UnreadableImage("the file is empty")
    file.seek(0)
    picture = Image.open(file, formats=FORMATS)
    width, height = picture.size
    if width < 1 or height < 1:
        raise UnreadableImage(f"it has {width} x {height} pixels")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} x {height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels")
    return picture


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    try:
        # not the method of a PNG, which decodes the whole picture to look for a late block
        value = int(Image.Image.getexif(picture).get(_ORIENTATION, 1))
    except Exception:  # a damaged metadata block must not cost the picture
        return 1
    return value if value in _UPRIGHT else 1


def _rgb(picture: Image.Image) -> Pixels:
    if picture.mode in _INTEGERS:
        return _repeat(_eight_bits(np.asarray(picture)))
    if picture.mode == "F":
        return _repeat(_from_float(np.asarray(picture)))
    if picture.has_transparency_data:
        page = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(page, picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def _eight_bits(values: np.ndarray[Any, Any]) -> Pixels:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnreadableImage(f"values from {low} to {high}; only 8 and 16 bits are read")
    if high <= 255 and values.dtype.itemsize != 2:
        return values.astype(np.uint8)
    return (values.astype(np.uint16) >> 8).astype(np.uint8)


def _from_float(values: np.ndarray[Any, Any]) -> Pixels:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # NaN fails this, too
        raise UnreadableImage(f"floating-point values from {low:g} to {high:g}; only [0, 1] and [0, 255] are read")
    scale = 255 if high <= 1 else 1
    return np.rint(values * scale).astype(np.uint8)


def _repeat(gray: Pixels) -> Pixels:
    return np.repeat(gray[:, :, None], 3, axis=2)
