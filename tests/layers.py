"""Single layers: as torch computes them, and as they compute here."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from halftone.models.cpu_convolutions import speed_up_convolutions


def twins(
    settings: dict[str, Any], dtype: torch.dtype = torch.float32, *, channels: tuple[int, int] = (6, 10)
) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return a convolution as torch has it, and its twin as it computes here."""
    torch.manual_seed(0)
    plain = nn.Conv2d(*channels, **settings, dtype=dtype)
    ours = copy.deepcopy(plain)
    speed_up_convolutions(ours)
    return plain, ours


def convolved(layer: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return the result of a layer and the gradients of its inputs and parameters, in float64."""
    inputs = inputs.clone().requires_grad_()
    result = layer(inputs)
    (result.double() * torch.linspace(-1, 1, result.numel()).reshape(result.shape)).sum().backward()
    return [value.detach().double() for value in (result, inputs.grad, *(p.grad for p in layer.parameters()))]
