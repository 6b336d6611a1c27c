"""fp8 for linear layers, by torchao: which layers, and what they would gain."""

from collections.abc import Collection
from dataclasses import dataclass
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional

from halftone.base.errors import RecipeError, ResourceError
from halftone.base.extras import require
from halftone.system.device import device_facts

_MULTIPLE = 16
"""The units take matrices whose sides are multiples of this."""
_WORTHWHILE = 1024
"""Below this many features on a side, casting costs about what the product saves (torchao's own tables)."""


@dataclass(frozen=True, slots=True)
class Fp8Layers:
    """Which linear layers of a network compute in fp8."""

    converted: tuple[str, ...]
    left: tuple[str, ...]
    """Those whose sides do not fit."""
    share: float
    """Of the parameters of all layers, those that are converted."""

    def __str__(self) -> str:
        kept = f", {len(self.left)} are left in bf16 (sides must be multiples of {_MULTIPLE})" if self.left else ""
        return f"{len(self.converted)} linear layers with {self.share:.0%} of the parameters compute in fp8{kept}"


def fp8_layers(model: nn.Module, *, keep: Collection[str] = ()) -> Fp8Layers:
    """Say which layers can be converted; those named in `keep` have a format of their own.

    Raises:
        RecipeError: none can.
    """
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    linears = {name: layer for name, layer in linears.items() if name not in keep}
    fitting = tuple(name for name, layer in linears.items() if _fits(layer))
    if not fitting:
        raise RecipeError(
            f"precision.mode = fp8: none of the {len(linears)} linear layers has sides that are multiples of "
            f"{_MULTIPLE}, and convolutions have no fp8",
            hint="use bf16 here; fp8 is for transformers such as vit_b_16",
        )
    total = sum(parameter.numel() for parameter in model.parameters())
    converted = sum(linears[name].weight.numel() for name in fitting)
    left = tuple(name for name in linears if name not in fitting)
    return Fp8Layers(fitting, left, converted / total)


def expected_gain(model: nn.Module, *, keep: Collection[str] = ()) -> str:
    """Say what fp8 will bring, by the size of the matrices."""
    found = fp8_layers(model, keep=keep)
    sides = [min(model.get_submodule(name).weight.shape) for name in found.converted]  # type: ignore[arg-type]
    large = sum(side >= _WORTHWHILE for side in sides)
    if large == len(sides):
        return f"{found}; all are large enough to gain"
    if large:
        return f"{found}; {large} of them are large enough to gain (both sides {_WORTHWHILE} or more)"
    return f"{found}; none has both sides of {_WORTHWHILE} or more, so expect little or a loss against bf16"


def check_fp8(device: torch.device) -> None:
    """Make sure that a device multiplies fp8.

    Raises:
        ResourceError: it does not.
    """
    if "fp8" in device_facts(device).native:
        return
    raise ResourceError(
        "precision.mode = fp8: this device has no fp8 units; they are in NVIDIA GPUs from Ada (8.9) on",
        hint="use --precision bf16, or rehearse it: --precision.emulate fp8-e4m3",
    )


def convert_to_fp8(
    model: nn.Module, device: torch.device, *, keep: Collection[str] = (), emulate: bool = False
) -> Fp8Layers:
    """Let the linear layers that fit compute in fp8, one scale per tensor; their weights stay in fp32.

    Args:
        model: changed in place; parameters keep their names and identity.
        device: that it is on.
        keep: names of layers that are left as they are.
        emulate: let torchao imitate the hardware, on any device.

    Raises:
        RecipeError: no layer fits.
        ResourceError: torchao or the hardware is missing.
    """
    if not emulate:
        check_fp8(device)
    found = fp8_layers(model, keep=keep)
    float8 = require("torchao.float8", extra="fp8")
    float8.convert_to_float8_training(
        model,
        config=float8.Float8LinearConfig(emulate=emulate),
        module_filter_fn=lambda layer, name: name in found.converted,
    )
    for name in found.converted:
        layer = model.get_submodule(name)
        layer.forward = MethodType(_forward, layer)
    return found


def _forward(self: nn.Linear, inputs: Tensor) -> Tensor:
    """Compute in fp8 in training only: whoever evaluates the model later gets the same numbers without torchao."""
    if self.training:
        return type(self).forward(self, inputs)
    return functional.linear(inputs, self.weight, self.bias)


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % _MULTIPLE == 0 and layer.out_features % _MULTIPLE == 0
