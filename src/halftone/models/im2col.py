"""The gradient of a convolution's weight as a product of matrices, in fp32 on processors without AVX-512.

There PyTorch's kernel for this gradient is slower than a product of matrices, and slowest on wide maps. The product is
that of the columns of the input, which hold for each pixel of the result what the kernel saw there
(im2col; Chellapilla, Puri and Simard 2006), with the gradient of the result. The columns are made for a few images at a
time, so that they take little memory. The forward pass, and the gradient of the input, stay PyTorch's. The sums are
those of the convolution in another order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from halftone.models.convolution import Geometry

_PIECE = 16 << 20
"""Bytes of the columns that are made at once, if they are more than one image's."""
_PLACES = range(2, 26)
"""Of a kernel: with one, the kernel is no slower; with more, the columns are too many."""
_CHANNELS, _MANY_CHANNELS = 64, 128
"""Channels before and after the layer, and after it on maps of usual sizes: narrower products gain nothing."""
_WIDE_MAP = 40**2
"""Pixels of the result from which on fewer channels suffice."""


def columns_pay(layer: nn.Conv2d, geometry: Geometry, dtype: torch.dtype) -> bool:
    """Tell whether the layer trains faster so; measured on two cores of an AMD EPYC (Zen 3)."""
    if min(layer.in_channels, layer.out_channels) < _CHANNELS or geometry.places not in _PLACES:
        return False
    pixels = geometry.pixels_after
    many = layer.out_channels >= _MANY_CHANNELS or pixels >= _WIDE_MAP
    trains = layer.weight.requires_grad and torch.is_grad_enabled()
    return many and pixels > 0 and dtype == torch.float32 and trains and _kernel_is_slow()


def convolve_with_columns(layer: nn.Conv2d, inputs: Tensor, geometry: Geometry) -> Tensor:
    """Return the layer's result for fp32 inputs [batch, channels, height, width]."""
    return _Convolution.apply(inputs, layer.weight, layer.bias, geometry)


def _kernel_is_slow() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


class _Convolution(torch.autograd.Function):
    """A convolution of one group whose weight finds its gradient by columns."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.geometry = geometry
        ctx.save_for_backward(inputs, weight)
        return F.conv2d(inputs, weight, bias, geometry.stride, geometry.padding, geometry.dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        wants_inputs, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        towards_inputs = towards_weight = None
        if wants_inputs:
            towards_inputs, _, _ = torch.ops.aten.convolution_backward(
                gradient,
                inputs,
                weight,
                None,
                geometry.stride,
                geometry.padding,
                geometry.dilation,
                False,
                (0, 0),
                1,
                (True, False, False),
            )
        if wants_weight:
            towards_weight = weight_gradient(inputs, gradient, geometry)
        return towards_inputs, towards_weight, gradient.sum((0, 2, 3)) if wants_bias else None, None


def weight_gradient(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of the weight, [channels after, channels before, kernel rows, kernel columns].

    Channels are last in memory, as the weight of a network on the CPU has them.
    """
    before, after = inputs.shape[1], gradient.shape[1]
    pixels = gradient.permute(0, 2, 3, 1)
    per_image = inputs.element_size() * geometry.pixels_after * geometry.places * before
    images = max(1, _PIECE // per_image)
    product = inputs.new_zeros(geometry.places * before, after)
    for start in range(0, len(inputs), images):
        some = slice(start, start + images)
        product = torch.addmm(product, _columns(inputs[some], geometry).T, pixels[some].reshape(-1, after))
    return product.T.contiguous().view(after, *geometry.kernel, before).permute(0, 3, 1, 2)


def _columns(inputs: Tensor, geometry: Geometry) -> Tensor:
    """Return what the kernel sees, [batch x pixels of the result, places of the kernel x channels]."""
    (down, across), (rows, columns) = geometry.padding, geometry.size_after
    padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, across, across, down, down)).contiguous()
    image, row, column, channel = padded.stride()
    shape = (len(inputs), rows, columns, *geometry.kernel, padded.shape[3])
    strides = (
        image,
        row * geometry.stride[0],
        column * geometry.stride[1],
        row * geometry.dilation[0],
        column * geometry.dilation[1],
        channel,
    )
    return padded.as_strided(shape, strides).reshape(shape[0] * rows * columns, -1)
