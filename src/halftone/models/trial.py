"""Trying a network out before it is trained: does it take such pictures, and does it answer per class?"""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from halftone.base.errors import RecipeError

_BATCH = 2


def try_out(
    module: nn.Module,
    *,
    name: str,
    num_classes: int,
    channels: int,
    size: int,
    asked: str = "--data.size or --data.channels",
) -> None:
    """Check that a network gives logits [batch, classes] for images [batch, channels, size, size].

    The trial computes shapes only, in well under a second, where all of the network's operations allow that;
    otherwise two black pictures pass through it in evaluation mode. Weights, statistics and random streams stay
    as they are.

    Args:
        module: the network.
        name: as it was asked for.
        num_classes: that it should tell apart.
        channels: of the images.
        size: of the images, in pixels.
        asked: which flags chose the images.

    Raises:
        RecipeError: it fails on such a picture, or its output has another shape.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    shape = (_BATCH, channels, size, size)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = _answer(module.eval(), shape)
    except Exception as error:  # it may be the user's code: anything can happen
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecipeError(
            f"model = '{name}' fails on pictures of {size} pixels with {channels} channel(s): {reason}",
            hint=f"choose another {asked}, or another network; --debug shows where",
        ) from error
    finally:
        for layer, mode in modes:
            layer.training = mode
    main = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(main, Tensor):
        raise RecipeError(f"model = '{name}' gives a {type(main).__name__}; it must give logits [batch, classes]")
    if main.shape != (_BATCH, num_classes):
        raise RecipeError(
            f"model = '{name}' gives {list(main.shape)} for {_BATCH} pictures; it must give logits "
            f"[{_BATCH}, {num_classes}], one per class",
            hint="let its last layer have num_classes outputs",
        )


def _answer(module: nn.Module, shape: tuple[int, ...]) -> object:
    """Return the output for black pictures, as shapes without content where that is possible."""
    tensors = dict(chain(module.named_parameters(), module.named_buffers()))
    try:
        bare = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}
        return functional_call(module, bare, torch.empty(shape, device="meta"))
    except Exception:  # an operation may need content, and tell so in any way: the truth is in the real thing
        first = next(iter(tensors.values()), torch.empty(0))
        return module(torch.zeros(shape, device=first.device))
