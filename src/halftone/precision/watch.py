"""Watching a live step: how large the numbers are in each layer, forward and backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from halftone.precision.magnitudes import Magnitudes

WHOLE = "(the network's output)"
"""What stands for the network as a whole, where its last operation is no layer."""


@dataclass(slots=True)
class LayerNumbers:
    """The numbers of one layer over the steps that were watched."""

    output: Magnitudes = field(default_factory=Magnitudes)
    gradient: Magnitudes = field(default_factory=Magnitudes)
    """Of the loss with respect to the output."""
    weight_gradient: Magnitudes = field(default_factory=Magnitudes)
    """Of the loss with respect to the layer's own parameters."""


def working_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that compute, by name: those without layers inside, and those with parameters of their own."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if name and (not any(True for _ in layer.children()) or any(True for _ in layer.parameters(recurse=False)))
        if not isinstance(layer, nn.Identity | nn.Dropout)
    }


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, LayerNumbers]]:
    """Count the numbers of all layers for as long as the context lasts, in the order of the network."""
    numbers: dict[str, LayerNumbers] = {}
    handles: list[RemovableHandle] = []
    last: list[Any] = [None]
    for name, layer in working_layers(model).items():
        found = numbers[name] = LayerNumbers()
        handles.append(layer.register_forward_hook(_output_hook(found, last)))
        trained = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
        handles += [parameter.register_post_accumulate_grad_hook(_weight_hook(found)) for parameter in trained]
    whole = numbers[WHOLE] = LayerNumbers()
    handles.append(model.register_forward_hook(_output_hook(whole, last, whole=True)))
    try:
        yield numbers
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(found: LayerNumbers, last: list[Any], *, whole: bool = False) -> Callable[..., None]:
    """Count what a layer gives; what the whole network gives only if it is not what the last layer gave."""

    def look(layer: nn.Module, inputs: Any, outputs: Any) -> None:
        if whole and outputs is last[0]:
            return
        last[0] = outputs
        for output in outputs if isinstance(outputs, tuple | list) else [outputs]:
            if isinstance(output, Tensor) and output.is_floating_point():
                found.output.add(output)
                if output.requires_grad:
                    output.register_hook(found.gradient.add)

    return look


def _weight_hook(found: LayerNumbers) -> Callable[[Tensor], None]:
    def look(parameter: Tensor) -> None:
        if parameter.grad is not None:
            found.weight_gradient.add(parameter.grad)

    return look
