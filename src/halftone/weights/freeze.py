"""Layers that stand still: their parameters get no gradient and their statistics do not move."""

from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from halftone.base.errors import RecipeError, closest

BACKBONE = "backbone"


def freeze(module: nn.Module, patterns: tuple[str, ...], *, head: tuple[str, ...]) -> tuple[nn.Module, ...]:
    """Freeze parameters by name pattern; `backbone` means all but the head.

    A pattern matches a parameter by its full name, or a layer and all below it by the layer's name.

    Returns:
        The normalisation layers that stand still whole. They must be kept in evaluation mode, or their running
        statistics would go on moving: see `hold_still`.

    Raises:
        RecipeError: a pattern matches nothing, or nothing is left to train; nothing was frozen.
    """
    frozen: set[str] = set()
    for pattern in patterns:
        matched = {name for name, _ in module.named_parameters() if _matches(name, pattern, head)}
        if not matched:
            raise RecipeError(f"weights.freeze = '{pattern}' matches no parameter", hint=_suggestion(module, pattern))
        frozen |= matched
    moving = [name for name, parameter in module.named_parameters() if name not in frozen and parameter.requires_grad]
    if not moving:
        hint = "leave the head free: weights.freeze backbone" if head else "name the layers that stand still"
        raise RecipeError("weights.freeze leaves nothing to train", hint=hint)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return tuple(layer for name, layer in module.named_modules() if _stands_still(name, layer, patterns, head))


def _stands_still(name: str, layer: nn.Module, patterns: tuple[str, ...], head: tuple[str, ...]) -> bool:
    """Tell whether a layer is a normalisation of which nothing is trained; one without parameters goes by its name."""
    if not isinstance(layer, _NormBase) or not patterns:
        return False
    parameters = list(layer.parameters(recurse=False))
    if parameters:
        return not any(parameter.requires_grad for parameter in parameters)
    return any(_matches(f"{name}.running_mean", pattern, head) for pattern in patterns)


def _matches(name: str, pattern: str, head: tuple[str, ...]) -> bool:
    """Tell whether a pattern means a tensor, by its own name or that of a layer around it."""
    if pattern == BACKBONE:
        return not name.startswith(tuple(f"{layer}." for layer in head))
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))


def _suggestion(module: nn.Module, pattern: str) -> str:
    names = [name for name, _ in module.named_modules() if name]
    example = f", or a pattern over layers such as '{names[0]}*'" if names else ""
    return closest(pattern, names) or f"use 'backbone'{example}"


def hold_still(norms: tuple[nn.Module, ...]) -> None:
    """Put frozen normalisation layers into evaluation mode; to be called whenever the network enters training."""
    for norm in norms:
        norm.eval()
