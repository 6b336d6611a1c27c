"""Layer-sequential unit variance (Mishkin and Matas 2016, algorithm 1)."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from halftone.weights.initialise.layers import weighted_layers
from halftone.weights.initialise.unchanged import only_weights_change

_TOLERANCE = 0.1
"""How far a variance may be from one: Mishkin and Matas 2016, algorithm 1."""


def scale_to_unit_variance(model: nn.Module, names: Collection[str], images: Tensor, *, seed: int) -> tuple[str, ...]:
    """Scale the weights of layers, one after the other, until the output of each has a variance of one on a batch.

    Biases must be zero. A layer's output is then proportional to its weight, so a single pass does what the paper's
    algorithm repeats: each layer is scaled when its turn comes, and hands on what it gives with the new weight. The
    network runs in training mode; its statistics stay as they were.

    Args:
        model: the network.
        names: layers with a scheme of lsuv, orthogonal so far.
        images: [batch, channels, height, width].
        seed: of what dropout draws meanwhile.

    Returns:
        The layers that could not be scaled: they are not called, give nothing but one number, or standardise their
        weight themselves.
    """
    waiting = set(names)

    def scale(name: str) -> Any:
        def look(layer: nn.Module, inputs: Any, named: Any, output: Tensor) -> Tensor | None:
            if name not in waiting:
                return None
            std = float(output.float().std())
            if not 0 < std < float("inf"):
                return None
            weight = layer.get_parameter("weight")
            weight.div_(std)
            scaled: Tensor = layer.forward(*inputs, **named)
            if abs(float(scaled.float().var()) - 1) > _TOLERANCE:
                weight.mul_(std)
                return None
            waiting.discard(name)
            return scaled

        return look

    layers = weighted_layers(model)
    handles = [layers[name].register_forward_hook(scale(name), with_kwargs=True) for name in names]
    try:
        with only_weights_change(model, seed=seed), torch.no_grad():
            model.train()(images)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(name for name in names if name in waiting)
