"""Rehearsal: computing as hardware with another number format would.

Tensors are held in the format's own type wherever autocast would hold them so, which torch can do on any device.
Element-wise operations, norms and reductions compute in fp32 and round their result on every device, as they stand.
Matrix products and convolutions, forward and backward, are what special hardware does: here they run on fp32 copies
of their inputs, with sums in fp32, and their result is rounded to the format. For tf32 and fp8, which no tensor of
the network is held in, the inputs of these products are rounded, and their results are those of fp32 and bf16.

Fused attention in half rounds and sums as the device's does, and is left alone.

Modelled: the rounding of every result and its overflow; gradients; loss scaling; fp8 with one scale per tensor, from
its largest value, in the same format for weights, activations and gradients, in convolutions too (hardware has it
for linear layers alone). Not modelled: the order of sums, sums in less than fp32 within a product, operations that
CUDA's autocast keeps in fp32 and the CPU's does not (layer normalisation, softmax; ask for them by `layers`), and
speed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from halftone.precision.config import Emulated
from halftone.precision.formats import FORMATS, HALVES

_aten = torch.ops.aten
_PRODUCTS = frozenset(
    {
        _aten.convolution.default,
        _aten.convolution_backward.default,
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten.mv.default,
        _aten.addmv.default,
        _aten.dot.default,
    }
)
_ATTENTION = frozenset(
    {
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    }
)
_NO_FACTOR = {
    _aten.convolution.default: 2,
    _aten.addmm.default: 0,
    _aten.baddbmm.default: 0,
    _aten.addmv.default: 0,
}
"""Which argument is added to a product and is no factor of it."""
_EIGHTS = {"fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}


class Rehearsal(TorchDispatchMode):
    """A context in which matrix products and convolutions compute as in another format."""

    def __init__(self, emulated: Emulated) -> None:
        """Rehearse a format; the context is entered for the forward and for the backward pass."""
        super().__init__()
        self._held = HALVES.get(emulated, torch.float32 if emulated == "tf32" else torch.bfloat16)
        # in half, kernels of fused attention round and sum as the device's do; in fp32, tf32 rounds what goes in
        self._products = _PRODUCTS | _ATTENTION if emulated == "tf32" else _PRODUCTS
        self._round_factor = rounding(emulated) if emulated not in HALVES else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self._products:
            return func(*args, **kwargs)
        tensors = [value for value in args if isinstance(value, Tensor)]
        if not any(value.dtype == self._held for value in tensors):
            return func(*args, **kwargs)
        added = _NO_FACTOR.get(func)
        widened = [
            self._widen(value, factor=place != added) if isinstance(value, Tensor) else value
            for place, value in enumerate(args)
        ]
        found = func(*widened, **kwargs)
        return tuple(map(self._narrow, found)) if isinstance(found, tuple) else self._narrow(found)

    def _widen(self, value: Tensor, *, factor: bool) -> Tensor:
        if not value.is_floating_point():
            return value
        wide = value.float()
        return self._round_factor(wide) if factor and self._round_factor is not None else wide

    def _narrow(self, value: Any) -> Any:
        return value.to(self._held) if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def rounding(emulated: Emulated) -> Callable[[Tensor], Tensor]:
    """Return the function that rounds a tensor in fp32 to a format and gives it back in fp32.

    The formats of eight bits are scaled so that the largest value of the tensor becomes the format's largest.
    """
    if emulated == "tf32":
        return round_to_tf32
    if emulated in HALVES:
        held = HALVES[emulated]
        return lambda value: value.to(held).float()
    eight, largest = _EIGHTS[emulated], FORMATS[emulated].largest

    def scaled(value: Tensor) -> Tensor:
        scale = largest / value.abs().amax().clamp(min=1e-12)
        return (value * scale).clamp(-largest, largest).to(eight).float() / scale

    return scaled


def round_to_tf32(value: Tensor) -> Tensor:
    """Round float32 to the 10 bits of tf32, to the nearest, ties to even; what is not finite stays as it is."""
    bits = value.view(torch.int32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    return torch.where(value.isfinite(), rounded.view(torch.float32), value)
