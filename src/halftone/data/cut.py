"""From an image to the part of it that the network sees: the one way of training, evaluation and prediction.

A box is chosen from the picture's height and width, then only as much is decoded as the box needs. A JPEG of which
much is wanted at a small size is decoded at 1/2, 1/4 or 1/8 of its size, so far as the antialiased resizing still has a
reduction of 1.25 or more to do (`jpeg.denominator`); the box then lies between pixels, and Pillow resizes it.
Everything else is decoded in full by Pillow, with the rules of `decode`.
"""

from collections.abc import Callable

from halftone.base.inputs import InputSpec
from halftone.data.box import Box
from halftone.data.decode import MAX_PIXELS, look_of, opened, pixels_of
from halftone.data.fit import convert_channels, fit, middle, resize
from halftone.data.jpeg import Header, decode_part, denominator, plain_jpeg
from halftone.data.labelled import Labelled, Pixels
from halftone.data.turn import Turn

_SLACK = 1.1
Choose = Callable[[int, int], Box]
"""From the height and width of the upright picture to the box that is wanted of it."""


def cut(source: Labelled, index: int, spec: InputSpec, choose: Choose | None = None) -> Pixels:
    """Return what the network sees of one image of a source.

    Args:
        source: the images.
        index: of the image.
        spec: what the network expects.
        choose: the box; without it, the part that evaluation sees.

    Returns:
        uint8 [size, size, channels].

    Raises:
        UnreadableImage: it cannot be decoded.
    """
    encoded = source.encoded(index)
    if encoded is not None:
        return cut_file(encoded.content, spec, choose, max_pixels=encoded.max_pixels)
    pixels = source.pixels(index)
    return fit(pixels, spec, None if choose is None else choose(*pixels.shape[:2]))


def cut_file(data: bytes, spec: InputSpec, choose: Choose | None = None, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return what the network sees of an image file; see `cut`.

    Args:
        data: the content of the file.
        spec: what the network expects.
        choose: the box; without it, the part that evaluation sees.
        max_pixels: pictures with more pixels are refused from their header.

    Returns:
        uint8 [size, size, channels].

    Raises:
        UnreadableImage: not an image, damaged, of a format that is not read, empty or too large.
    """
    plain = plain_jpeg(data, max_pixels)
    if plain is not None:
        header, turn = plain
        height, width = turn.upright_shape(header.height, header.width)
        box = middle(height, width, spec) if choose is None else choose(height, width)
        found = _from_jpeg(data, header, turn, spec, box, (spec.size, spec.size))
        if found is not None:
            return convert_channels(found, spec.channels)
    with opened(data, max_pixels=max_pixels) as picture:
        seen = look_of(picture)
        box = middle(seen.height, seen.width, spec) if choose is None else choose(seen.height, seen.width)
        return fit(pixels_of(picture), spec, box)


def shrink(source: Labelled, index: int, spec: InputSpec, side: int | None) -> Pixels:
    """Return one image as it is kept for later crops.

    Args:
        source: the images.
        index: of the image.
        spec: what the network expects.
        side: what the shorter side is reduced to where it is longer by more than a tenth, in pixels; None for the
            finished input.

    Returns:
        uint8 [height, width, 1 or 3], upright.

    Raises:
        UnreadableImage: it cannot be decoded.
    """
    if side is None:
        return cut(source, index, spec)
    encoded = source.encoded(index)
    plain = None if encoded is None else plain_jpeg(encoded.content, encoded.max_pixels)
    if encoded is not None and plain is not None:
        header, turn = plain
        height, width = turn.upright_shape(header.height, header.width)
        shape = bounded(height, width, side)
        found = _from_jpeg(encoded.content, header, turn, spec, Box(0, 0, width, height), shape)
        if found is not None:
            return found
    pixels = source.pixels(index)
    if spec.channels == 1:
        pixels = convert_channels(pixels, 1)
    height, width = bounded(pixels.shape[0], pixels.shape[1], side)
    return resize(pixels, height, width, spec.interpolation)


def bounded(height: int, width: int, side: int) -> tuple[int, int]:
    """Return to what height and width a picture is reduced whose shorter side is to be about `side`, in pixels.

    One that is larger by no more than a tenth is left as it is.
    """
    if min(height, width) <= _SLACK * side:
        return height, width
    scale = side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _from_jpeg(
    data: bytes, header: Header, turn: Turn, spec: InputSpec, box: Box, shape: tuple[int, int]
) -> Pixels | None:
    """Resize a box of a plain JPEG, decoding no more than it needs; None if it is damaged.

    Returns:
        uint8 [height, width, 1 or 3] of the shape wanted; one channel only if the network takes one.
    """
    height, width = header.height, header.width
    stored = turn.stored(box, height, width)
    rows, columns = reversed(shape) if turn.exchange else shape
    by = 1
    if spec.interpolation != "nearest":
        by = denominator(stored.bottom - stored.top, stored.right - stored.left, rows, columns)
    around = stored.around(by, height, width)
    part = decode_part(data, header, around, by)
    if part is None:
        return None
    if spec.channels == 1:
        part = convert_channels(part, 1)
    within = None
    if by > 1:
        left, top = (stored.left - around.left) / by, (stored.top - around.top) / by
        right, bottom = (stored.right - around.left) / by, (stored.bottom - around.top) / by
        within = Box(left, top, right, bottom)
    return turn.upright(resize(part, rows, columns, spec.interpolation, within))
