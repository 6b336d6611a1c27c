"""Convolutions of small maps, computed on the CPU as they are fastest there.

PyTorch's convolutions are made for wide maps. The last layers of a network see a few pixels: for those, the same sums
are computed as one product of matrices (`toeplitz`), or with several images side by side (`side_by_side`). The layers,
their weights and what is saved stay as they are.
"""

from types import MethodType

import torch
from torch import Tensor, nn

from halftone.models.convolution import Geometry
from halftone.models.side_by_side import convolve_side_by_side, side_by_side_pays
from halftone.models.toeplitz import convolve_by_toeplitz, toeplitz_pays

_WIDEST = 24
"""Columns of an input; on wider ones nothing is looked at any further."""


def speed_up_small_maps(model: nn.Module) -> None:
    """Let a network's convolutions compute so where that is faster: on the CPU, by the size of what they are given."""
    for layer in model.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
        if plain and not isinstance(layer.padding, str) and "forward" not in layer.__dict__:
            # a bound method is copied with its layer
            layer.forward = MethodType(_forward, layer)


def _forward(self: nn.Conv2d, inputs: Tensor) -> Tensor:
    small = inputs.dim() == 4 and 0 < inputs.shape[3] <= _WIDEST and inputs.device.type == "cpu"
    if small and not torch.compiler.is_compiling():
        geometry = Geometry.of(self, (inputs.shape[2], inputs.shape[3]))
        dtype = _computes_in(self, inputs)
        if toeplitz_pays(self, geometry, len(inputs)):
            return convolve_by_toeplitz(self, inputs, geometry, dtype)
        if side_by_side_pays(self, geometry, len(inputs), dtype):
            return convolve_side_by_side(self, inputs, geometry, dtype)
    return nn.Conv2d.forward(self, inputs)


def _computes_in(layer: nn.Conv2d, inputs: Tensor) -> torch.dtype:
    """Return the format of a layer's products, by autocast or by its weight."""
    lowers = torch.is_autocast_enabled("cpu") and inputs.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if lowers else layer.weight.dtype
