"""From an image to the part of it that the network sees: the one way of training, evaluation and prediction.

A box is chosen from the picture's height and width, then only as much is decoded as the box needs. A JPEG of which
much is wanted at a small size is decoded at 1/2, 1/4 or 1/8 of its size, so far as the antialiased resizing still has a
reduction of 2 or more to do (`jpeg.denominator`). Edges of the box are moved to whole pixels of what is decoded.
Everything else is decoded in full by Pillow, with the rules of `decode`.
"""

from collections.abc import Callable

from PIL import Image

from halftone.base.inputs import InputSpec
from halftone.data.decode import MAX_PIXELS, look_of, opened, orientation, pixels_of
from halftone.data.fit import Box, fit, fit_whole, middle
from halftone.data.jpeg import decode_part, denominator, is_plain
from halftone.data.labelled import Labelled, Pixels
from halftone.data.turn import Turn

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
    with opened(data, max_pixels=max_pixels) as picture:
        seen = look_of(picture)
        box = middle(seen.height, seen.width, spec) if choose is None else choose(seen.height, seen.width)
        if is_plain(picture, data):
            found = _cut_jpeg(data, picture, spec, box)
            if found is not None:
                return found
        return fit(pixels_of(picture), spec, box)


def _cut_jpeg(data: bytes, picture: Image.Image, spec: InputSpec, box: Box) -> Pixels | None:
    """Decode no more than the box needs; None if the decoder stumbles."""
    width, height = picture.size
    turn = Turn.of(orientation(picture))
    stored = turn.stored(box, height, width)
    by = 1
    if spec.interpolation != "nearest":
        by = denominator(stored.bottom - stored.top, stored.right - stored.left, spec.size)
    exact = stored.on_grid(by, height, width)
    part = decode_part(data, picture, exact, by)
    if part is None:
        return None
    extent = ((exact.bottom - exact.top) / by, (exact.right - exact.left) / by)
    return turn.upright(fit_whole(part, spec, extent))
