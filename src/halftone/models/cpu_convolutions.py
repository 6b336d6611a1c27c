"""Convolutions computed on the CPU as they are fastest there.

PyTorch's convolutions are made for wide maps and full kernels. The last layers of a network see a few pixels: there
the same sums are computed as one product of matrices (`toeplitz`), or with several images side by side
(`side_by_side`). Depthwise layers in bf16 find their gradients by way of fp32 (`depthwise`). Where the processor has no
AVX-512, layers of many channels in fp32 find that of their weight by a product of matrices (`im2col`). The layers,
their weights and what is saved stay as they are.
"""

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn

from halftone.models.convolution import Geometry
from halftone.models.depthwise import convolve_depthwise, fp32_gradients_pay, is_depthwise
from halftone.models.im2col import columns_pay, convolve_with_columns
from halftone.models.side_by_side import convolve_side_by_side, side_by_side_pays
from halftone.models.toeplitz import convolve_by_toeplitz, toeplitz_pays


def speed_up_convolutions(model: nn.Module) -> None:
    """Let a network's convolutions compute so where that is faster: on the CPU, by the size of what they are given."""
    for layer in model.modules():
        way = _way(layer)
        if way is not None and "forward" not in layer.__dict__:
            layer.forward = MethodType(way, layer)  # a bound method is copied with its layer


def _way(layer: nn.Module) -> Callable[[nn.Conv2d, Tensor], Tensor] | None:
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    if layer.groups == 1:
        return _forward
    return _forward_depthwise if is_depthwise(layer) else None


def _forward(self: nn.Conv2d, inputs: Tensor) -> Tensor:
    if _is_ours(inputs) and inputs.shape[3] > 0:
        geometry, dtype = Geometry.of(self, (inputs.shape[2], inputs.shape[3])), _computes_in(self, inputs)
        if toeplitz_pays(self, geometry, len(inputs)):
            return convolve_by_toeplitz(self, inputs, geometry, dtype)
        if side_by_side_pays(self, geometry, len(inputs), dtype):
            return convolve_side_by_side(self, inputs, geometry, dtype)
        if columns_pay(self, geometry, dtype):
            return convolve_with_columns(self, inputs, geometry)
    return nn.Conv2d.forward(self, inputs)


def _forward_depthwise(self: nn.Conv2d, inputs: Tensor) -> Tensor:
    if _is_ours(inputs):
        geometry, dtype = Geometry.of(self, (inputs.shape[2], inputs.shape[3])), _computes_in(self, inputs)
        if fp32_gradients_pay(geometry, dtype):
            return convolve_depthwise(self, inputs, geometry, dtype)
    return nn.Conv2d.forward(self, inputs)


_forward.__name__ = _forward_depthwise.__name__ = "forward"
"""The name under which a pickled layer finds its method again: that of its class, so that halftone is not needed."""


def _is_ours(inputs: Tensor) -> bool:
    return inputs.dim() == 4 and inputs.device.type == "cpu" and not torch.compiler.is_compiling()


def _computes_in(layer: nn.Conv2d, inputs: Tensor) -> torch.dtype:
    """Return the format of a layer's products, by autocast or by its weight."""
    lowers = torch.is_autocast_enabled("cpu") and inputs.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if lowers else layer.weight.dtype
