"""Changing light and colour. Images are floating point [batch, channels, height, width] in [0, 1]; amounts [batch].

All of these are right in any layout, and fast where the channels of an image lie in planes: where they lie side by
side, what is one number per channel or one per pixel meets three numbers at a time, too few for a loop.
"""

import torch
from torch import Tensor


def _each(amount: Tensor) -> Tensor:
    return amount[:, None, None, None]


def blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Mix `share` of the images with the rest of the others; a share above 1 moves away from them."""
    return torch.lerp(others, images, _each(share)).clamp_(0, 1)


def gray(images: Tensor) -> Tensor:
    """Return the luminance (ITU-R BT.601), [batch, 1, height, width]."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the light."""
    return (images * _each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from (above 1) or towards (below 1) the mean luminance of each image."""
    return blend(images, gray(images).mean((2, 3), keepdim=True).expand_as(images), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from (above 1) or towards (below 1) the gray picture."""
    if images.shape[1] == 1:
        return images
    return blend(images, gray(images).expand_as(images), factor)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a share of the colour circle, through HSV."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)  # of gray, the differences are zero
    sector = torch.where(
        value == red,
        (green - blue).div_(safe),
        torch.where(value == green, (blue - red).div_(safe).add_(2), (red - green).div_(safe).add_(4)),
    )
    angle = sector.div_(6).add_(turn[:, None, None])
    angle.sub_(angle.floor())

    def channel(offset: int) -> Tensor:
        distance = (angle + offset / 6).frac_().mul_(6)
        return value - torch.minimum(distance, 4 - distance).clamp_(0, 1).mul_(chroma)

    return torch.stack([channel(5), channel(3), channel(1)], 1)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from (above 1) or towards (below 1) a smoothed picture; the border stays as it is."""
    if min(images.shape[2:]) < 3:
        return images
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    squares = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1].mul_(4).add_(squares).div_(13)
    return blend(images, smooth, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits of each 8-bit value."""
    step = 2.0 ** (8 - _each(bits.float()))
    return (images * 255).round().div(step).floor().mul(step).div(255)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above a threshold in [0, 1]."""
    return torch.where(images >= _each(threshold), 1 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to the full range."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    return torch.where(high > low, (images - low) / span, images)


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image, by the rule that Pillow uses."""
    batch, channels, height, width = images.shape
    levels = (images * 255).round().long().reshape(batch * channels, height * width)
    histogram = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels))
    last = 255 - (histogram.flip(1) > 0).int().argmax(1)  # the brightest level that occurs
    step = (height * width - histogram.gather(1, last[:, None]).squeeze(1)) // 255
    table = (histogram.cumsum(1) + (step // 2)[:, None]) // step.clamp(min=1)[:, None]
    table = torch.cat([torch.zeros_like(table[:, :1]), table[:, :-1]], 1).clamp(0, 255)
    mapped = table.gather(1, levels).reshape(batch, channels, height, width).to(images.dtype) / 255
    return torch.where((step == 0).reshape(batch, channels, 1, 1), images, mapped)
