"""One image, read and decoded once, with all that its decoder says: what training sees, and what it cannot say."""

from dataclasses import dataclass

import numpy as np

from halftone.data.decode import format_of, has_frames, opened, pixels_of
from halftone.data.jpeg import decode_whole, plain_jpeg
from halftone.data.labelled import Encoded, Labelled, Pixels

_MODES = {1: "L", 3: "RGB"}
"""Pillow's names of what arrays hold."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found in one image."""

    pixels: Pixels
    """Upright, [height, width, 1 or 3]; one channel where all are equal."""
    mode: str
    """As Pillow calls it: L, RGB, CMYK, P, ..."""
    kind: str = ""
    """The format of the file by its content; empty if there is no file."""
    complaint: str = ""
    """What the decoder found wrong in a picture that it decoded nevertheless."""
    frames: bool = False
    """Whether there are more frames than the first one, which is used."""


def examine(source: Labelled, index: int) -> Examined:
    """Read one image and decode it in full, with the decoders of training.

    Raises:
        UnreadableImage: it cannot be decoded.
    """
    encoded = source.encoded(index)
    if encoded is not None:
        return _examine_file(encoded)
    pixels = source.pixels(index)
    return Examined(_plain(pixels), _MODES.get(pixels.shape[2], ""))


def _examine_file(encoded: Encoded) -> Examined:
    data, max_pixels = encoded
    complaint = ""
    plain = plain_jpeg(data, max_pixels)
    if plain is not None:
        header, turn = plain
        stored, complaint = decode_whole(data, header)
        if stored is not None:
            return Examined(_plain(turn.upright(stored)), _MODES[stored.shape[2]], "JPEG")
    with opened(data, max_pixels=max_pixels) as picture:
        mode, pixels = picture.mode, _plain(pixels_of(picture))
        return Examined(pixels, mode, format_of(picture), " ".join(complaint.split()), has_frames(picture))


def _plain(pixels: Pixels) -> Pixels:
    """Drop the channels that say nothing: the same picture is the same array, however its gray was stored."""
    if pixels.shape[2] == 3 and _is_gray(pixels[:1]) and _is_gray(pixels):  # the first row tells most of them
        pixels = pixels[..., :1]
    return np.ascontiguousarray(pixels)


def _is_gray(pixels: Pixels) -> bool:
    first = pixels[..., 0]
    return np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2])
