"""The backward pass of depthwise convolutions in bf16, by way of fp32.

PyTorch has a fast way for kernels of 3 x 3 that go pixel by pixel. All other depthwise convolutions take four to nine
times as long to go back in bf16 as in fp32, so that a MobileNet trains more slowly in bf16. Here their gradients are
computed in fp32 from the same numbers, and rounded once; a few images at a time, so that the numbers of twice the width
take little memory, and mostly stay in the processor's. The forward pass, and what it keeps, stay bf16.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from halftone.models.convolution import Geometry, Pair

_PIECE = 16 << 20
"""Bytes in fp32 of the images, or of their gradients, that are computed at once; at least one image is."""


def is_depthwise(layer: nn.Conv2d) -> bool:
    """Tell whether each channel is convolved by itself."""
    return layer.groups == layer.in_channels == layer.out_channels > 1


def fp32_gradients_pay(geometry: Geometry, dtype: torch.dtype) -> bool:
    """Tell whether a depthwise layer trains faster so."""
    fast = geometry.kernel == (3, 3) and geometry.stride == geometry.dilation == (1, 1)
    return dtype == torch.bfloat16 and torch.is_grad_enabled() and not fast and geometry.places > 1


def convolve_depthwise(layer: nn.Conv2d, inputs: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Return the layer's result for inputs [batch, channels, height, width], computed in a format."""
    result = _Depthwise.apply(inputs.to(dtype), layer.weight, geometry.stride, geometry.padding, geometry.dilation)
    return result if layer.bias is None else result + layer.bias.to(dtype).view(-1, 1, 1)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in the format of its inputs, with gradients from fp32."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        ctx.settings = (stride, padding, dilation, len(weight))
        ctx.save_for_backward(inputs, weight)
        return F.conv2d(inputs, weight.to(inputs.dtype), None, *ctx.settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        inputs, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        wants_inputs, wants_weight = ctx.needs_input_grad[:2]
        used = weight.to(inputs.dtype).float()  # the weight as the forward pass saw it
        towards_inputs = torch.empty_like(inputs) if wants_inputs else None
        towards_weight = torch.zeros_like(used) if wants_weight else None
        for some in _pieces(inputs, gradient):
            of_inputs, of_weight, _ = torch.ops.aten.convolution_backward(
                gradient[some].float(),
                inputs[some].float(),
                used,
                None,
                stride,
                padding,
                dilation,
                False,
                (0, 0),
                groups,
                (wants_inputs, wants_weight, False),
            )
            if towards_inputs is not None:
                towards_inputs[some] = of_inputs
            if towards_weight is not None:
                towards_weight += of_weight
        if towards_weight is not None:
            towards_weight = towards_weight.to(weight.dtype)
        return towards_inputs, towards_weight, None, None, None


def _pieces(inputs: Tensor, gradient: Tensor) -> Iterator[slice]:
    """Yield the images that are computed at once."""
    per_image = torch.float32.itemsize * max(inputs.shape[1:].numel(), gradient.shape[1:].numel())
    images = max(1, _PIECE // per_image)
    for start in range(0, len(inputs), images):
        yield slice(start, start + images)
