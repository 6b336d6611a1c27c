"""The policy of a network: which layer computes in which format.

A layer with a format of its own takes its inputs in that format and computes in it, whatever surrounds it; its result
is handed on as it is, as autocast does, so that what was kept in fp32 because it overflows is not cut off behind it.
Only where no autocast surrounds it, in fp32, the result of a reduced layer is brought back to fp32.
The policy lies on the layers themselves and goes wherever they go: into copies, compiled and exported networks.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from halftone.base.errors import RecipeError, closest, listed
from halftone.precision.config import LayerFormat, LayerKind
from halftone.precision.formats import HALVES

KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, **HALVES}
_MARK = "_halftone_format"


def kind_of(layer: nn.Module) -> LayerKind | None:
    """Return the kind of a layer, or None for containers and layers of no kind that precision is about."""
    name = type(layer).__name__.lower()
    if isinstance(layer, _ConvNd):
        return "depthwise" if 1 < layer.groups == layer.in_channels else "convolution"
    if isinstance(layer, nn.Linear):
        return "linear"
    if "attention" in name:
        return "attention"
    if isinstance(layer, nn.Softmax | nn.LogSoftmax | nn.Softmax2d):
        return "softmax"
    if is_norm(layer):
        return "norm"
    # pooling and dropout have no weights either, but nothing in them depends on the format
    named = type(layer).__module__.endswith("activation") or name.endswith(("act", "gelu"))
    return "activation" if named and not layer._modules else None


def is_norm(layer: nn.Module) -> bool:
    """Tell whether a layer normalises: batch, layer, group or instance, torch's or anybody's."""
    # timm's norms hold their activation; a block that only has "norm" in its name has no parameters of its own
    return "norm" in type(layer).__name__.lower() and bool(layer._parameters or not layer._modules)


def settle_layers(model: nn.Module, layers: Mapping[str, LayerFormat]) -> dict[str, LayerFormat]:
    """Return the format of each layer that has one of its own, by name; later entries win.

    The kind `loss` is no layer and is left out; see `halftone.optim.loss.Criterion`.

    Raises:
        RecipeError: an entry matches no layer.
    """
    found: dict[str, LayerFormat] = {}
    named = [(name, layer) for name, layer in model.named_modules() if name and not _only_read(layer)]
    for pattern, chosen in layers.items():
        if pattern == "loss":
            continue
        if pattern in KINDS:
            names = [name for name, layer in named if kind_of(layer) == pattern]
        else:
            names = [name for name, _ in named if fnmatchcase(name, pattern)]
        if not names:
            raise _no_match(pattern, [name for name, _ in named])
        found |= dict.fromkeys(names, chosen)
    return found


def _only_read(layer: nn.Module) -> bool:
    """Tell whether a layer is never called: torch's attention reads the weights of its output projection."""
    return type(layer).__name__ == "NonDynamicallyQuantizableLinear"


def _no_match(pattern: str, names: list[str]) -> RecipeError:
    known = closest(pattern, [*KINDS, *names])
    return RecipeError(
        f"precision.layers = '{pattern}': no layer of the network matches",
        hint=known or f"a kind ({listed(KINDS)}) or a pattern of names, such as {names[0] if names else 'features'}*",
    )


def apply_policy(model: nn.Module, layers: Mapping[str, LayerFormat]) -> dict[str, LayerFormat]:
    """Give layers a format of their own, in place of any that were given before; return them by name.

    Raises:
        RecipeError: an entry matches no layer; nothing is changed.
    """
    settled = settle_layers(model, layers)
    clear_policy(model)
    for name, chosen in settled.items():
        layer = model.get_submodule(name)
        # a bound method is copied with its layer, which a closure over the layer would not be
        layer.forward = MethodType(_FORWARDS[chosen], layer)
        setattr(layer, _MARK, chosen)
    return settled


def loss_dtype(layers: Mapping[str, LayerFormat]) -> torch.dtype | None:
    """Return the type that the loss was given, or None."""
    return _DTYPES[layers["loss"]] if "loss" in layers else None


def clear_policy(model: nn.Module) -> None:
    """Let all layers compute as their surroundings do."""
    for layer in model.modules():
        if _MARK in layer.__dict__:
            del layer.__dict__[_MARK], layer.__dict__["forward"]


def own_format(layer: nn.Module) -> LayerFormat | None:
    """Return the format that a layer was given, or None."""
    return layer.__dict__.get(_MARK)


def within(model: nn.Module, layers: Mapping[str, LayerFormat], chosen: LayerFormat) -> Iterator[nn.Module]:
    """Yield the layers that compute in a format of their own, those inside of a container that does included."""
    for name, layer in model.named_modules():
        above = [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]
        nearest = next((layers[place] for place in above if place in layers), None)
        if nearest == chosen:
            yield layer


def _forward_in(dtype: torch.dtype) -> Callable[..., Any]:
    lowers = dtype != torch.float32

    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        taken = [_cast(value, dtype) for value in inputs]
        device = next((value.device.type for value in taken if isinstance(value, Tensor)), "cpu")
        reconciled = not lowers or torch.is_autocast_enabled(device)
        with torch.autocast(device, dtype if lowers else None, enabled=lowers):
            found = type(self).forward(self, *taken, **{name: _cast(value, dtype) for name, value in named.items()})
        return found if reconciled else _widened(found)

    return forward


def _widened(found: Any) -> Any:
    """Bring a result to fp32: without autocast around, the next layer would refuse a half."""
    if isinstance(found, tuple | list):
        return type(found)(_widened(value) for value in found)
    return _cast(found, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


_FORWARDS = {name: _forward_in(dtype) for name, dtype in _DTYPES.items()}
