"""Layer-sequential unit variance (Mishkin and Matas 2016, algorithm 1)."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from halftone.weights.initialise.layers import weighted_layers
from halftone.weights.initialise.unchanged import only_weights_change


def scale_to_unit_variance(model: nn.Module, names: Collection[str], images: Tensor) -> tuple[str, ...]:
    """Scale the weights of layers, one after the other, until the output of each has a variance of one on a batch.

    Biases must be zero. A layer's output is then proportional to its weight, so a single pass does what the paper's
    algorithm repeats: each layer is scaled when its turn comes and hands on what it gives with the new weight. The
    network runs in training mode; its statistics stay as they were.

    Args:
        model: the network.
        names: layers with a scheme of lsuv, orthogonal so far.
        images: [batch, channels, height, width].

    Returns:
        The layers that could not be scaled: they are not called, or give nothing but one number.
    """
    waiting = set(names)

    def scale(name: str) -> Any:
        def look(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if name not in waiting:
                return None
            std = float(output.float().std())
            if not 0 < std < float("inf"):
                return None
            waiting.discard(name)
            assert isinstance(layer.weight, Tensor)
            layer.weight /= std
            return output / std

        return look

    layers = weighted_layers(model)
    handles = [layers[name].register_forward_hook(scale(name)) for name in names]
    try:
        with only_weights_change(model), torch.no_grad():
            model.train()(images)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(name for name in names if name in waiting)
