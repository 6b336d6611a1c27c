"""A decoded picture to the size and channels of the network's input.

Resizing is torch's for uint8 with antialiasing: the same filters as Pillow's (nearly all values differ by 1 at most),
several times faster on processors with AVX2. It is given contiguous pixels: for those it computes in the calling
thread, while a view of a larger picture is copied by a pool of threads, one pool for each thread that decodes.
"""

import numpy as np
import torch
from PIL import Image

from halftone.base.inputs import InputSpec, Interpolation
from halftone.data.box import Box
from halftone.data.labelled import Pixels

_RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_IN_THIS_THREAD: bool = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
"""Elsewhere torch's resizing takes a general way, which is slower than Pillow's and starts threads."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def middle(height: int, width: int, spec: InputSpec) -> Box:
    """Return the part of a picture that evaluation sees, in whole pixels."""
    if spec.fit == "squash":
        return Box(0, 0, width, height)
    side = min(height, width) * spec.crop
    left, top = (width - side) / 2, (height - side) / 2
    return Box(left, top, left + side, top + side).on_grid(1, height, width)


def fit(pixels: Pixels, spec: InputSpec, box: Box | None = None) -> Pixels:
    """Cut out a box, resize it with antialiasing and convert the channels.

    Pixels outside of the box do not enter, as in torchvision's `RandomResizedCrop`.

    Args:
        pixels: uint8 [height, width, 1 or 3].
        spec: what the network expects.
        box: the part to use, taken to whole pixels; without it, the part that evaluation sees.

    Returns:
        uint8 [size, size, channels].
    """
    height, width = pixels.shape[:2]
    whole = (box or middle(height, width, spec)).on_grid(1, height, width)
    return fit_whole(pixels[int(whole.top) : int(whole.bottom), int(whole.left) : int(whole.right)], spec)


def fit_whole(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Resize a box that was cut out already, and convert the channels.

    Returns:
        uint8 [size, size, channels].
    """
    if spec.channels == 1:
        pixels = convert_channels(pixels, 1)
    return convert_channels(resize(pixels, spec.size, spec.size, spec.interpolation), spec.channels)


def resize(pixels: Pixels, height: int, width: int, interpolation: Interpolation, box: Box | None = None) -> Pixels:
    """Resize with antialiasing, in the calling thread; what has the size already is returned as it is.

    Args:
        pixels: uint8 [any, any, 1 or 3].
        height: wanted, in pixels.
        width: wanted, in pixels.
        interpolation: the filter; `nearest` has no antialiasing.
        box: the part to use, its edges possibly between pixels, which only Pillow can do; without it, all.

    Returns:
        uint8 [height, width, 1 or 3].
    """
    if box is None and pixels.shape[:2] == (height, width):
        return pixels
    if box is not None or interpolation == "nearest" or not _IN_THIS_THREAD:
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        edges = None if box is None else (box.left, box.top, box.right, box.bottom)
        resized = picture.resize((width, height), _RESAMPLE[interpolation], box=edges)
        return np.asarray(resized).reshape(height, width, pixels.shape[2])
    if not (pixels.flags.c_contiguous and pixels.flags.writeable):  # torch warns of what it may not write to
        pixels = pixels.copy()
    whole = pixels.reshape(1, *pixels.shape)  # from pixels[None] torch would not see that channels are last
    batch = torch.from_numpy(whole.transpose(0, 3, 1, 2))
    scaled = torch.nn.functional.interpolate(batch, (height, width), mode=interpolation, antialias=True)
    return scaled.numpy()[0].transpose(1, 2, 0)


def convert_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert between one gray channel and RGB; pixels are [..., 1 or 3]."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.rint(pixels.astype(np.float32) @ _LUMA).astype(np.uint8)[..., None]
