"""A convolution of maps of a few pixels as one product of matrices.

Where a map has no more pixels than the kernel has places, most taps fall on the padding, and the blocking of PyTorch's
convolutions on the CPU finds nothing to work on: a step of such a layer takes two to a hundred times as long as the
product with the layer's Toeplitz matrix, which holds the weight of each pair of pixels. Its sums are those of the
convolution in another order.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from halftone.models.convolution import Geometry

_IMAGES_PER_PIXEL = 12
"""Images in a batch for each pixel of a map, from which on the making of the matrix is repaid; for one pixel any."""
_MOST_WEIGHTS = 1 << 23
"""Numbers in a matrix: 32 MB in fp32."""

Tap = tuple[int, int, int]
"""A pixel of the result, one of the input, and the place in the kernel that joins them."""


def toeplitz_pays(layer: nn.Conv2d, geometry: Geometry, images: int) -> bool:
    """Tell whether the matrix is small, and made for enough images."""
    pixels = geometry.pixels
    if not 0 < pixels <= geometry.places or geometry.places == 1:
        return False
    weights = pixels * geometry.pixels_after * layer.in_channels * layer.out_channels
    return 0 < weights <= _MOST_WEIGHTS and (pixels == 1 or images >= _IMAGES_PER_PIXEL * pixels)


def convolve_by_toeplitz(layer: nn.Conv2d, inputs: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Return the layer's result for inputs [batch, channels, height, width], computed in a format."""
    rows, columns = geometry.size_after
    matrix = _Toeplitz.apply(layer.weight, _taps(geometry), geometry.pixels, rows * columns, dtype)
    bias = None if layer.bias is None else layer.bias.repeat(rows * columns)
    flat = inputs.permute(0, 2, 3, 1).reshape(len(inputs), -1)
    result = F.linear(flat, matrix, bias)
    return result.view(len(inputs), rows, columns, layer.out_channels).permute(0, 3, 1, 2)


@lru_cache
def _taps(geometry: Geometry) -> tuple[Tap, ...]:
    """Return which weight joins which pixels; pixels are counted row by row, and so are the places in a kernel."""
    (height, width), (height_after, width_after) = geometry.size, geometry.size_after
    stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
    found = []
    for out_row in range(height_after):
        for out_column in range(width_after):
            for place in range(geometry.places):
                row = out_row * stride[0] - padding[0] + place // geometry.kernel[1] * dilation[0]
                column = out_column * stride[1] - padding[1] + place % geometry.kernel[1] * dilation[1]
                if 0 <= row < height and 0 <= column < width:
                    found.append((out_row * width_after + out_column, row * width + column, place))
    return tuple(found)


class _Toeplitz(torch.autograd.Function):
    """The matrix of a convolution, [pixels after x channels after, pixels x channels]; gradients add up in fp32."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, taps: tuple[Tap, ...], pixels: int, pixels_after: int, dtype: torch.dtype
    ) -> Tensor:
        out, into = weight.shape[:2]
        ctx.taps, ctx.shape, ctx.dtype = taps, weight.shape, weight.dtype
        places = weight.flatten(2).permute(2, 0, 1).to(dtype)
        matrix = places.new_zeros(pixels_after, out, pixels, into)
        for after, before, place in taps:
            matrix[after, :, before].copy_(places[place])
        return matrix.view(pixels_after * out, pixels * into)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        out, into, height, width = ctx.shape
        blocks = gradient.reshape(-1, out, gradient.shape[1] // into, into)
        wide = torch.promote_types(gradient.dtype, torch.float32)
        places = gradient.new_zeros(height * width, out, into, dtype=wide)
        for after, before, place in ctx.taps:
            places[place].add_(blocks[after, :, before])
        return places.view(height, width, out, into).permute(2, 3, 0, 1).to(ctx.dtype), None, None, None, None
