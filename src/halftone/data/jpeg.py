"""A part of a JPEG, without decoding the whole of it.

libjpeg-turbo decodes at 1/2, 1/4 or 1/8 of the size by transforming fewer coefficients of each block, which is cheaper
than decoding in full, and stops after the rows that are needed.

Only what is certain to come out as with Pillow is decoded here: gray and three-channel JPEGs that end with their end
marker. A file that is cut off does not, and neither does one with something behind it; so whatever Pillow refuses is
refused by Pillow, in its words. Whatever libjpeg-turbo complains of is left to Pillow, too. Headers are read here as
well: opening a file with Pillow holds Python's lock, and takes a tenth of the time of decoding it.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np
import simplejpeg

from halftone.data.box import Box
from halftone.data.decode import opened, orientation
from halftone.data.labelled import Pixels
from halftone.data.turn import Turn

LEAST_REDUCTION = 1.25
"""What a picture decoded at a part of its size is at least reduced by afterwards, with antialiasing."""
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header."""
_USUAL_FRAMES = (0xC0, 0xC1, 0xC2)
_TOP_DOWN = (0xC0, 0xC1)
"""Of frames whose blocks follow one another from top to bottom."""
_SCAN, _RESTARTS, _TAGS = 0xDA, 0xDD, 0xE1
_FRAME = struct.Struct(">BHHB")
"""Bits, height, width and channels, in a frame header."""
_REST = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
"""What libjpeg-turbo says, at the end and of a faultless file, where a header promised fewer rows than there are."""
_ROWS = 16
"""Rows in the tallest usual row of blocks."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a plain JPEG before it is decoded."""

    height: int
    width: int
    gray: bool
    tagged: bool
    """Whether there are tags, EXIF or others, that may say how it stands; without them, it stands upright."""
    height_at: int
    """Where in the file the height is written, if fewer rows may be written there; 0 if not."""


def denominator(height: float, width: float, rows: int, columns: int) -> int:
    """Return at what part of its size to decode a picture of which a box is wanted: 1, or 1/2, 1/4, 1/8 of it.

    The smallest that leaves a reduction of at least `LEAST_REDUCTION` to the antialiased resizing.

    Args:
        height: of the box, in pixels.
        width: of the box, in pixels.
        rows: that the box is resized to.
        columns: that the box is resized to.
    """
    chosen = 1
    while chosen < 8 and min(height / rows, width / columns) >= 2 * chosen * LEAST_REDUCTION:
        chosen *= 2
    return chosen


def read_header(data: bytes) -> Header | None:
    """Read the header of a plain JPEG; None of anything else, and where it is not understood.

    Plain are gray and three-channel files of 8 bits, baseline or progressive, that end with their end marker.
    """
    if not (data.startswith(_START) and data.endswith(_END)):
        return None
    place, tagged, restarts = len(_START) - 1, False, False
    frame: tuple[int, int, int, int] | None = None
    while place + 4 + _FRAME.size <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            bits, height, width, channels = _FRAME.unpack_from(data, place + 4)
            if frame is not None or marker not in _USUAL_FRAMES or bits != 8 or channels not in (1, 3):
                return None
            frame = marker, height, width, channels
            height_at = place + 5
        tagged |= marker == _TAGS
        restarts |= marker == _RESTARTS
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    else:
        return None
    if frame is None or not (frame[1] and frame[2]):
        return None
    marker, height, width, channels = frame
    shortens = marker in _TOP_DOWN and not restarts
    return Header(height, width, gray=channels == 1, tagged=tagged, height_at=height_at if shortens else 0)


def decode_whole(data: bytes, header: Header) -> tuple[Pixels | None, str]:
    """Decode a plain JPEG in full.

    Returns:
        uint8 [height, width, 1 or 3] as it is stored, or None if the decoder stumbles; and what it complained of.
    """
    gray = header.gray
    pixels = np.empty((header.height, header.width, 1 if gray else 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", buffer=pixels)
    except (ValueError, RuntimeError) as error:
        return None, str(error)
    return pixels, ""


def decode_part(data: bytes, header: Header, box: Box, by: int) -> Pixels | None:
    """Decode a box of a plain JPEG at a part of its size.

    Args:
        data: the content of the file.
        header: of it.
        box: as the picture is stored, with edges at multiples of `by` pixels or of the picture.
        by: 1, 2, 4 or 8; the denominator of the size.

    Returns:
        uint8 [ceil(box height / by), ceil(box width / by), 1 or 3], or None if the decoder stumbles.
    """
    height, width, gray = header.height, header.width, header.gray
    needed = (int(box.bottom) + by + _ROWS - 1) // _ROWS * _ROWS  # the row below shows in the colours of the last one
    shortened = needed < height and header.height_at > 0
    if shortened:  # a header that promises fewer rows, so that the decoder stops there
        place, height = header.height_at, needed
        data = data[:place] + height.to_bytes(2, "big") + data[place + 2 :]
    shape = (-(-height // by), -(-width // by), 1 if gray else 3)
    pixels = np.empty(shape, np.uint8)
    size = {"min_height": shape[0], "min_width": shape[1], "min_factor": by}
    try:
        if by > 1 and simplejpeg.decode_jpeg_header(data, **size)[:2] != shape[:2]:
            return None
        simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", buffer=pixels, **size)
    except (ValueError, RuntimeError) as error:
        if not shortened or _REST.fullmatch(str(error)) is None:
            return None
    rows = slice(int(box.top) // by, -(-int(box.bottom) // by))
    return pixels[rows, int(box.left) // by : -(-int(box.right) // by)]


def plain_jpeg(data: bytes, max_pixels: int) -> tuple[Header, Turn] | None:
    """Return the header of a plain JPEG and how it is turned upright; None of any other file."""
    header = read_header(data)
    if header is None or header.height * header.width > max_pixels:
        return None
    if not header.tagged:
        return header, Turn()
    with opened(data, max_pixels=max_pixels) as picture:
        return header, Turn.of(orientation(picture))
