"""Convolutions of maps of a few pixels on the CPU, as one product of matrices each.

The last layers of a network of small pictures see 3 x 3 pixels, 2 x 2, or one. There most taps of a kernel fall on
the padding, and the blocking of PyTorch's convolutions on the CPU finds nothing to work on: a step of such a layer
takes two to a hundred times as long as the product with the layer's Toeplitz matrix, which holds the weight of each
pair of pixels. Its sums are those of the convolution in another order.
"""

from functools import lru_cache
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_IMAGES_PER_PIXEL = 12
"""Images in a batch for each pixel of a map, from which on the making of the matrix is repaid; for one pixel any."""
_MOST_WEIGHTS = 1 << 23
"""Numbers in a matrix: 32 MB in fp32."""

Tap = tuple[int, int, int]
"""A pixel of the result, one of the input, and the place in the kernel that joins them."""


def unroll_small_maps(model: nn.Module) -> None:
    """Let a network's convolutions compute so where that is faster: on the CPU, by the size of what they are given."""
    for layer in model.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
        if plain and not isinstance(layer.padding, str) and "forward" not in layer.__dict__:
            # a bound method is copied with its layer
            layer.forward = MethodType(_forward, layer)


def _forward(self: nn.Conv2d, inputs: Tensor) -> Tensor:
    if inputs.dim() != 4 or not _pays(self, inputs):
        return nn.Conv2d.forward(self, inputs)
    batch, _, height, width = inputs.shape
    size = _size_after(self, height, width)
    taps = _taps((height, width), size, self.kernel_size, self.stride, _padding(self), self.dilation)
    lowers = torch.is_autocast_enabled("cpu") and inputs.dtype != torch.float64
    dtype = torch.get_autocast_dtype("cpu") if lowers else self.weight.dtype
    matrix = _Toeplitz.apply(self.weight, taps, height * width, size[0] * size[1], dtype)
    bias = None if self.bias is None else self.bias.repeat(size[0] * size[1])
    flat = inputs.permute(0, 2, 3, 1).reshape(batch, -1)
    return F.linear(flat, matrix, bias).view(batch, *size, self.out_channels).permute(0, 3, 1, 2)


def _pays(layer: nn.Conv2d, inputs: Tensor) -> bool:
    """Tell whether the matrix is small, and made for enough images."""
    batch, _, height, width = inputs.shape
    pixels, kernel = height * width, layer.kernel_size[0] * layer.kernel_size[1]
    if inputs.device.type != "cpu" or not 0 < pixels <= kernel or kernel == 1 or torch.compiler.is_compiling():
        return False
    out_height, out_width = _size_after(layer, height, width)
    weights = pixels * out_height * out_width * layer.in_channels * layer.out_channels
    repaid = pixels == 1 or batch >= _IMAGES_PER_PIXEL * pixels
    return 0 < weights <= _MOST_WEIGHTS and out_height > 0 and repaid


def _size_after(layer: nn.Conv2d, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the result."""
    padding = _padding(layer)
    reach = (layer.dilation[0] * (layer.kernel_size[0] - 1), layer.dilation[1] * (layer.kernel_size[1] - 1))
    return (
        (height + 2 * padding[0] - reach[0] - 1) // layer.stride[0] + 1,
        (width + 2 * padding[1] - reach[1] - 1) // layer.stride[1] + 1,
    )


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(layer.padding, str)
    return layer.padding[0], layer.padding[1]


@lru_cache
def _taps(
    size: tuple[int, int],
    size_after: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Tap, ...]:
    """Return which weight joins which pixels; pixels are counted row by row, and so are the places in a kernel."""
    found = []
    for out_row in range(size_after[0]):
        for out_column in range(size_after[1]):
            for place in range(kernel[0] * kernel[1]):
                row = out_row * stride[0] - padding[0] + place // kernel[1] * dilation[0]
                column = out_column * stride[1] - padding[1] + place % kernel[1] * dilation[1]
                if 0 <= row < size[0] and 0 <= column < size[1]:
                    found.append((out_row * size_after[1] + out_column, row * size[1] + column, place))
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
