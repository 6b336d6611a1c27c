"""A convolution of narrow maps, with several images side by side in one wide map.

The matrix units of Intel's processors (AMX) take 32 numbers of bf16 in a row. For the gradient of a weight these are
the pixels of a row of the map, so that from a map of 7 pixels three quarters of the work is done on nothing. Several
images side by side, with as many empty columns between them as the convolution pads, fill the row: each sees its own
pixels and zeros, as before. What comes out between the images is dropped, and gets no gradient. The sums are those of
the convolution in another order.
"""

from typing import Any

import torch
from torch import Tensor, nn

from halftone.models.convolution import Geometry
from halftone.system.device import cpu_capabilities

_ROW = 32
"""Pixels that fill the units."""
_WIDEST = 9
"""Columns of the result up to which this repays the copies; measured from 2 to 14."""
_LEAST_CHANNELS = 128
"""Before and after the layer: with fewer there is less work than there are copies."""
_LEAST_IMAGES = 8


def side_by_side_pays(layer: nn.Conv2d, geometry: Geometry, images: int, dtype: torch.dtype) -> bool:
    """Tell whether the layer trains faster so: the gain is in the backward pass."""
    if not (layer.weight.requires_grad and torch.is_grad_enabled() and _has_units_for(dtype)):
        return False
    reach = geometry.dilation[1] * (geometry.kernel[1] - 1)
    return (
        geometry.places > 1
        and reach == 2 * geometry.padding[1]
        and geometry.pixels_after > 0
        and geometry.size_after[1] <= _WIDEST
        and min(layer.in_channels, layer.out_channels) >= _LEAST_CHANNELS
        and images >= _LEAST_IMAGES
    )


def convolve_side_by_side(layer: nn.Conv2d, inputs: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Return the layer's result for inputs [batch, channels, height, width], computed in a format."""
    stride, width, width_after = geometry.stride[1], geometry.size[1], geometry.size_after[1]
    pitch_after = -(-(width + geometry.padding[1]) // stride)
    beside = max(_ROW // pitch_after, 2)
    joined = _Join.apply(inputs.to(dtype), beside, pitch_after * stride)
    return _Part.apply(nn.Conv2d.forward(layer, joined), len(inputs), beside, width_after)


def _has_units_for(dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 and bool(cpu_capabilities().get("amx_bf16"))


class _Join(torch.autograd.Function):
    """Images [batch, channels, height, width] side by side, each in `pitch` columns, `beside` of them in a map.

    Maps are [batch / beside rounded up, channels, height, beside x pitch]; what no image fills is zero.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, beside: int, pitch: int) -> Tensor:
        batch, channels, height, width = images.shape
        ctx.batch, ctx.beside, ctx.width = batch, beside, width
        full, rest = divmod(batch, beside)
        rows = images.permute(0, 2, 3, 1)
        maps = rows.new_zeros(full + (rest > 0), height, beside, pitch, channels)
        places = maps[:, :, :, :width]
        places[:full].copy_(rows[: full * beside].unflatten(0, (full, beside)).transpose(1, 2))
        if rest:
            places[full, :, :rest].copy_(rows[full * beside :].transpose(0, 1))
        return maps.flatten(2, 3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Part.apply(gradient, ctx.batch, ctx.beside, ctx.width), None, None


class _Part(torch.autograd.Function):
    """The images that `_Join` put side by side: the first `width` of each one's columns."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, batch: int, beside: int, width: int) -> Tensor:
        ctx.beside, ctx.pitch = beside, maps.shape[3] // beside
        rows = maps.permute(0, 2, 3, 1).unflatten(2, (beside, ctx.pitch))[:, :, :, :width]
        return rows.transpose(1, 2).flatten(0, 1)[:batch].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Join.apply(gradient, ctx.beside, ctx.pitch), None, None, None
