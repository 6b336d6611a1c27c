"""A decoded picture to the size and channels of the network's input."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from halftone.base.inputs import InputSpec
from halftone.data.labelled import Pixels

_RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a picture in pixels, its edges possibly between pixels."""

    left: float
    top: float
    right: float
    bottom: float


def middle(height: int, width: int, spec: InputSpec) -> Box:
    """Return the part of a picture that evaluation sees."""
    if spec.fit == "squash":
        return Box(0, 0, width, height)
    side = min(height, width) * spec.crop
    left, top = (width - side) / 2, (height - side) / 2
    return Box(left, top, left + side, top + side)


def fit(pixels: Pixels, spec: InputSpec, box: Box | None = None) -> Pixels:
    """Cut out a box, resize it with antialiasing and convert the channels, in one pass over the pixels.

    Args:
        pixels: uint8 [height, width, 1 or 3].
        spec: what the network expects.
        box: the part to use; without it, the part that evaluation sees.

    Returns:
        uint8 [size, size, channels].
    """
    height, width = pixels.shape[:2]
    box = box or middle(height, width, spec)
    pixels = convert_channels(pixels, spec.channels)
    whole = box == Box(0, 0, width, height)
    if whole and height == width == spec.size:
        return pixels
    picture = Image.fromarray(pixels[:, :, 0] if spec.channels == 1 else pixels)
    resized = picture.resize(
        (spec.size, spec.size), _RESAMPLE[spec.interpolation], box=(box.left, box.top, box.right, box.bottom)
    )
    return np.asarray(resized).reshape(spec.size, spec.size, spec.channels)


def convert_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert between one gray channel and RGB; pixels are [..., 1 or 3]."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.rint(pixels.astype(np.float32) @ _LUMA).astype(np.uint8)[..., None]
