"""Large linear layers under autocast on the CPU, with no more memory at the peak than in fp32.

Autocast keeps the half copy of a weight until its gradient is there in half and again in fp32: together twice the
weight's own size, where fp32 takes it once. In a network such as VGG, most of whose weights are in one layer, that is
more than all that bf16 saves. Here the copy lies where the weight's gradient will: that of the inputs is taken from it
first, and then that of the weight comes over it in blocks of rows, each of which turns to fp32 at once. Each element is
the same sum of the same products as before.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from halftone.precision.policy import own_format

LARGE = 1 << 24
"""Weights in a layer from which on its gradient is worth the care: 64 MB in fp32."""
_BLOCK = 1 << 20
"""Weights whose gradient is there in half at a time: 2 MB."""


def spare_memory(model: nn.Module) -> None:
    """Let the large linear layers of a network on the CPU compute with less memory; elsewhere nothing changes."""
    for layer in model.modules():
        if type(layer) is not nn.Linear or own_format(layer) is not None or "forward" in layer.__dict__:
            continue
        weight: Tensor = layer.weight
        if weight.numel() >= LARGE and weight.device.type == "cpu":
            layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]


def _forward(self: nn.Linear, inputs: Tensor) -> Tensor:
    lowers = torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if not lowers or self.weight.dtype != torch.float32 or not inputs.is_floating_point():
        return type(self).forward(self, inputs)
    return _LargeLinear.apply(inputs, self.weight, self.bias, torch.get_autocast_dtype("cpu"))


class _LargeLinear(torch.autograd.Function):
    """A linear layer with its inputs and weights lowered."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        lowered = inputs.to(dtype)
        ctx.room = torch.empty_like(weight, memory_format=torch.contiguous_format)
        half = _lowered_into(ctx.room, weight, dtype)
        ctx.save_for_backward(lowered, weight)
        ctx.taken = inputs.dtype
        with torch.autocast("cpu", enabled=False):
            return F.linear(lowered, half, None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        lowered, weight = ctx.saved_tensors
        for_inputs = for_weight = for_bias = None
        room, ctx.room = ctx.room, None
        if room is None:  # a second pass over a kept graph; the room is the first one's gradient
            room = torch.empty_like(weight, memory_format=torch.contiguous_format)
            _lowered_into(room, weight, lowered.dtype)
        if ctx.needs_input_grad[0]:
            for_inputs = (gradient @ _half_of(room, lowered.dtype)).to(ctx.taken)
        rows, columns = gradient.flatten(0, -2), lowered.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            for_weight = room
            height = max(1, _BLOCK // weight.shape[1])
            for block, part in zip(for_weight.split(height), rows.split(height, dim=1), strict=True):
                block.copy_(part.t() @ columns)
        if ctx.needs_input_grad[2]:
            for_bias = rows.sum(0).to(torch.float32)
        return for_inputs, for_weight, for_bias, None


def _half_of(room: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the first half of the memory of an fp32 tensor as one of two bytes a number and of the same shape."""
    return room.flatten().view(dtype)[: room.numel()].view(room.shape)


def _lowered_into(room: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Write a weight into the first half of a room, in half, and return it."""
    return _half_of(room, dtype).copy_(weight)
