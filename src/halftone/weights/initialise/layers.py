"""Which layer gets which scheme: by kind, or by a pattern over names."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.conv import _ConvNd

from halftone.base.errors import RecipeError, closest, listed
from halftone.base.patterns import matches
from halftone.weights.config import InitConfig, Scheme
from halftone.weights.initialise.schemes import WEIGHTED

Kind = Literal["convolution", "depthwise", "linear", "stem", "head"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def weighted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers and convolutions with a weight of their own, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, WEIGHTED) and layer._parameters.get("weight") is not None
    }


def settle_schemes(
    model: nn.Module, config: InitConfig, *, head: Collection[str], stem: Collection[str]
) -> dict[str, Scheme]:
    """Return the scheme of each layer with weights, by name; later entries of `init.layers` win.

    Raises:
        RecipeError: an entry matches no such layer.
    """
    layers = weighted_layers(model)
    schemes: dict[str, Scheme] = dict.fromkeys(layers, config.scheme)
    for pattern, scheme in config.layers.items():
        if pattern in KINDS:
            names = [name for name, layer in layers.items() if _is_kind(pattern, name, layer, head, stem)]
        else:
            names = [name for name in layers if matches(name, pattern)]
        if not names:
            raise _no_match(pattern, layers)
        schemes |= dict.fromkeys(names, scheme)
    return schemes


def _is_kind(kind: str, name: str, layer: nn.Module, head: Collection[str], stem: Collection[str]) -> bool:
    match kind:
        case "head":
            return name in head
        case "stem":
            return name in stem
        case "linear":
            return isinstance(layer, nn.Linear)
        case "depthwise":
            return isinstance(layer, _ConvNd) and 1 < layer.groups == layer.in_channels
    return isinstance(layer, _ConvNd) and not 1 < layer.groups == layer.in_channels


def _no_match(pattern: str, layers: Mapping[str, nn.Module]) -> RecipeError:
    first = next(iter(layers), "features")
    return RecipeError(
        f"init.layers = '{pattern}': no linear layer or convolution of the network matches",
        hint=closest(pattern, [*KINDS, *layers])
        or f"a kind ({listed(KINDS)}) or a pattern of names, such as {first.partition('.')[0]}*",
    )
