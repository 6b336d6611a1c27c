"""The backward pass of depthwise convolutions in bf16, by way of fp32.

PyTorch has a fast way for kernels of 3 x 3 that go pixel by pixel. All other depthwise convolutions take four to nine
times as long to go back in bf16 as in fp32, so that a MobileNet trains more slowly in bf16. Here their gradients are
computed in fp32 from the same numbers, and rounded once. The forward pass, and what it keeps, stay bf16.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from halftone.models.convolution import Geometry, Pair


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
        wide = gradient.float()
        towards_inputs = towards_weight = None
        if ctx.needs_input_grad[0]:
            used = weight.to(inputs.dtype).float()  # the weight as the forward pass saw it
            towards_inputs = conv2d_input(inputs.shape, used, wide, *ctx.settings).to(inputs.dtype)
        if ctx.needs_input_grad[1]:
            towards_weight = conv2d_weight(inputs.float(), weight.shape, wide, *ctx.settings).to(weight.dtype)
        return towards_inputs, towards_weight, None, None, None
