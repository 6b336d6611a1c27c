"""A part of a JPEG, without decoding the whole of it.

libjpeg-turbo decodes at 1/2, 1/4 or 1/8 of the size by transforming fewer coefficients of each block, which is cheaper
than decoding in full, and stops after the rows that are needed.

Only what is certain to come out as with Pillow is decoded here: gray and three-channel JPEGs that end with their end
marker. A file that is cut off does not, and neither does one with something behind it; so whatever Pillow refuses is
refused by Pillow, in its words. Whatever libjpeg-turbo complains of is left to Pillow, too.
"""

import re

import numpy as np
import simplejpeg
from PIL import Image

from halftone.data.fit import Box
from halftone.data.labelled import Pixels

LEAST_REDUCTION = 1.5
"""What a picture decoded at a part of its size is at least reduced by afterwards, with antialiasing."""
_END = b"\xff\xd9"
_HEADS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header. Its first two are of frames whose blocks follow one another from top to bottom."""
_SCAN, _RESTARTS = 0xDA, 0xDD
_REST = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
"""What libjpeg-turbo says, at the end and of a faultless file, where a header promised fewer rows than there are."""
_ROWS = 16
"""Rows in the tallest usual row of blocks."""


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


def is_plain(picture: Image.Image, data: bytes) -> bool:
    """Tell whether an opened picture is a JPEG that `decode_part` decodes as Pillow does."""
    return picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB") and data.endswith(_END)


def decode_part(data: bytes, picture: Image.Image, box: Box, by: int) -> Pixels | None:
    """Decode a box of a plain JPEG at a part of its size.

    Args:
        data: the content of the file.
        picture: the same, opened.
        box: as the picture is stored, with edges at multiples of `by` pixels or of the picture.
        by: 1, 2, 4 or 8; the denominator of the size.

    Returns:
        uint8 [ceil(box height / by), ceil(box width / by), 1 or 3], or None if the decoder stumbles.
    """
    width, height = picture.size
    gray = picture.mode == "L"
    needed = (int(box.bottom) // _ROWS + 2) * _ROWS
    shorter = _with_height(data, height, needed) if needed < height else None
    if shorter is not None:
        data, height = shorter, needed
    shape = (-(-height // by), -(-width // by), 1 if gray else 3)
    pixels = np.empty(shape, np.uint8)
    size = {"min_height": shape[0], "min_width": shape[1], "min_factor": by}
    try:
        if simplejpeg.decode_jpeg_header(data, **size)[:2] != shape[:2]:
            return None
        simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", buffer=pixels, **size)
    except ValueError as error:
        if shorter is None or _REST.fullmatch(str(error)) is None:
            return None
    rows = slice(int(box.top) // by, -(-int(box.bottom) // by))
    return pixels[rows, int(box.left) // by : -(-int(box.right) // by)]


def _with_height(data: bytes, height: int, rows: int) -> bytes | None:
    """Return the file with a header that promises fewer rows, so that decoders stop there.

    None where its blocks do not follow one another from top to bottom, where the rest would not be passed over in one
    piece, or where the header is not understood.
    """
    place, found = 2, 0
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            changed = bytearray(data)
            changed[found : found + 2] = rows.to_bytes(2, "big")
            return bytes(changed) if found else None
        if marker in _HEADS:
            found = place + 5
            if marker > 0xC1 or int.from_bytes(data[found : found + 2], "big") != height:
                return None
        if marker == _RESTARTS:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
