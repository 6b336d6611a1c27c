"""What the layers give and what gradients they get, in one pass of a batch through a network and back."""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from halftone.diagnose.weights_verdict import LayerHealth
from halftone.optim.loss import Criterion
from halftone.run.plan.sample import Sample
from halftone.weights.initialise.layers import weighted_layers
from halftone.weights.initialise.trace import Activation, is_norm, trace

_SATURATED = 0.99
"""Of the way to its bounds, from which a tanh or sigmoid hardly moves any more."""
_BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}


def watch_pass(
    model: nn.Module, sample: Sample, criterion: Criterion, *, head: Collection[str]
) -> tuple[float, tuple[LayerHealth, ...]]:
    """Pass a batch through a network and back.

    Args:
        model: in the mode in which it is to run; its gradients are gone afterwards.
        sample: the batch.
        criterion: the loss.
        head: names of the layers that name the classes.

    Returns:
        The loss, and the numbers of the linear layers and convolutions, in the order in which they were called.
    """
    layers = weighted_layers(model)
    watch = _Watch(layers)
    handles = []
    for name, module in model.named_modules():
        if name in layers:
            handles.append(module.register_forward_hook(watch.output_hook(name)))
            if name in head:
                handles.append(module.register_forward_pre_hook(watch.input_hook(name)))
        elif is_norm(module):
            handles.append(module.register_forward_hook(watch.normed))
    try:
        found, output = trace(model, sample.images, watch.activated)
        loss: Tensor = criterion(output, sample.targets)
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    for name, values in watch.values.items():
        activation = found.activations.get(name)
        values["activation"] = None if activation is None else activation.name
        gradient = layers[name].get_parameter("weight").grad
        if gradient is not None:
            _note(values, weight_gradient=gradient.std(correction=0))
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), tuple(LayerHealth(name=name, **values) for name, values in watch.values.items())


class _Watch:
    """Takes the numbers down, by layer. Where a layer is called again with the same weights, the first call counts."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self._layers = layers
        self.values: dict[str, dict[str, Any]] = {}
        self._outputs: dict[int, tuple[Tensor, str, RemovableHandle | None]] = {}
        """Outputs that no norm has taken yet, kept alive so that none takes another's place in memory."""

    def output_hook(self, name: str) -> Any:
        def look(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            if name not in self.values:
                self.values[name] = {}
                self._outputs[id(output)] = (output, name, self._look(name, output))

        return look

    def normed(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """Let the output of a norm stand for that of the layer whose output it takes, if it does."""
        _, name, handle = self._outputs.pop(id(inputs[0]), (None, "", None))
        if name:
            if handle is not None:
                handle.remove()
            self._look(name, output)

    def _look(self, name: str, output: Tensor) -> RemovableHandle | None:
        values = self.values[name]
        with torch.no_grad(), torch._C.DisableTorchFunction():
            _note(values, mean=output.mean(), std=output.std(correction=0))
        if not output.requires_grad:
            return None
        handle: RemovableHandle = output.register_hook(lambda gradient: _note(values, gradient=gradient.norm()))
        return handle

    def input_hook(self, name: str) -> Any:
        def look(layer: nn.Module, inputs: Any) -> None:
            if inputs[0].requires_grad:
                inputs[0].register_hook(lambda gradient: _note(self.values[name], input_gradient=gradient.norm()))

        return look

    @torch.no_grad()
    def activated(self, name: str, activation: Activation, result: Tensor) -> None:
        """Look at what an activation gives."""
        values, numbers = self.values[name], result.detach()
        _note(values, activation_std=numbers.std(correction=0))
        by_channel = isinstance(self._layers[name], _ConvNd)
        units = numbers.transpose(0, 1).flatten(1) if by_channel else numbers.flatten(0, -2).T
        values["dead"] = float((units == 0).all(1).float().mean())
        if activation.name in _BOUNDS:
            low, high = _BOUNDS[activation.name]
            margin = (1 - _SATURATED) * (high - low) / 2
            values["saturated"] = float(((numbers > high - margin) | (numbers < low + margin)).float().mean())


def _note(values: dict[str, Any], **found: Tensor) -> None:
    """Write numbers down; one that is not finite becomes None, which is noted, too."""
    for name, value in found.items():
        number = float(value)
        values[name] = number if math.isfinite(number) else None
        values["finite"] = values.get("finite", True) and math.isfinite(number)
