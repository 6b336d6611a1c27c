"""What follows each layer with weights: its activation, and the additions at which residual branches end.

A network is run once on images, and every tensor carries what it came through. Functions are seen as well as modules:
`F.relu(x)` counts as `nn.ReLU` does, and `x + y` as an addition.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from halftone.weights.initialise.schemes import WEIGHTED

Function = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[Any, str] = {
    F.relu: "relu", torch.relu: "relu", torch.relu_: "relu", Tensor.relu: "relu", Tensor.relu_: "relu",
    F.relu6: "relu6", F.leaky_relu: "leaky_relu", F.rrelu: "rrelu", F.prelu: "prelu", torch.prelu: "prelu",
    F.elu: "elu", F.selu: "selu", F.celu: "celu", F.gelu: "gelu", F.silu: "silu", F.mish: "mish",
    F.softplus: "softplus", F.softsign: "softsign", F.hardswish: "hardswish", F.hardsigmoid: "hardsigmoid",
    F.hardtanh: "hardtanh", F.logsigmoid: "logsigmoid",
    F.tanh: "tanh", torch.tanh: "tanh", Tensor.tanh: "tanh", Tensor.tanh_: "tanh",
    F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid", Tensor.sigmoid: "sigmoid", Tensor.sigmoid_: "sigmoid",
}  # fmt: skip
_ADDITIONS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_PRODUCTS = {
    torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.einsum, F.linear, F.bilinear,
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
    F.scaled_dot_product_attention, F.multi_head_attention_forward,
}  # fmt: skip
"""Functions behind which an activation is no longer that of the layer before them."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The function that follows a layer."""

    name: str
    function: Function
    """The same function with the options that the network gave it, of a tensor alone."""


@dataclass(slots=True)
class _Way:
    """What a tensor came through."""

    layers: frozenset[str] = frozenset()
    """Layers with weights whose output this is, with no activation since."""
    norms: frozenset[str] = frozenset()
    """Norms whose output this is, with no weights and no activation since."""
    depth: int = 0
    """Layers with weights behind each other, at most."""


@dataclass(slots=True)
class Trace:
    """What was found on the way through a network."""

    order: list[str] = field(default_factory=list)
    """Layers with weights, in the order in which they are called."""
    activations: dict[str, Activation] = field(default_factory=dict)
    """By the name of the layer before; a layer that none follows is not here."""
    branch_ends: dict[str, None] = field(default_factory=dict)
    """Norms that end a residual branch, in order."""


Seen = Callable[[str, Activation, Tensor], None]
"""Called with a layer's name, the activation that follows it and the result of that."""


class _Ways(TorchFunctionMode):
    """Keeps account of every tensor; tensors are kept alive, so that none takes another's place in memory."""

    def __init__(self, trace: Trace, seen: Seen | None) -> None:
        super().__init__()
        self.trace, self._seen = trace, seen
        self._ways: dict[int, tuple[Tensor, _Way]] = {}

    def of(self, *values: Any) -> list[_Way]:
        """Return the ways of those values that are tensors on their way."""
        return [self._ways[id(value)][1] for value in values if isinstance(value, Tensor) and id(value) in self._ways]

    def put(self, value: Any, way: _Way) -> None:
        if isinstance(value, Tensor):
            self._ways[id(value)] = (value, way)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        before = self.of(*args, *named.values(), *(args[0] if args and isinstance(args[0], tuple | list) else ()))
        result = func(*args, **named)
        if not before:
            return result
        way = _Way(
            frozenset[str]().union(*(one.layers for one in before)),
            frozenset[str]().union(*(one.norms for one in before)),
            max(one.depth for one in before),
        )
        if func in _ACTIVATIONS:
            self._activated(_Call(_ACTIVATIONS[func], func, args, named), way, result)
            way = _Way(depth=way.depth)
        elif func in _PRODUCTS:
            way = _Way(depth=way.depth)
        elif func in _ADDITIONS and len(before) == 2:
            first, second = before
            if first.depth != second.depth:  # the longer way is the branch, the other the shortcut
                self.trace.branch_ends |= dict.fromkeys(max(before, key=lambda one: one.depth).norms)
            way = _Way(way.layers, depth=way.depth)
        for value in result if isinstance(result, tuple | list) else (result,):
            self.put(value, way)
        return result

    def _activated(self, call: "_Call", way: _Way, result: Any) -> None:
        activation = Activation(call.name, call.alone)
        for name in sorted(way.layers):
            if name not in self.trace.activations:
                self.trace.activations[name] = activation
                if self._seen is not None:
                    self._seen(name, activation, result)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of an activation, to be repeated on other numbers."""

    name: str
    function: Any
    args: tuple[Any, ...]
    named: dict[str, Any]

    def alone(self, numbers: Tensor) -> Tensor:
        """Apply the function with its options to numbers [n]; weights of its own (PReLU) count as their mean."""
        rest = [value.detach().cpu().mean() if isinstance(value, Tensor) else value for value in self.args[1:]]
        named = {name: value for name, value in self.named.items() if name not in ("inplace", "input")}
        if self.name == "prelu":
            weight = rest[0] if rest else named["weight"].detach().cpu().mean()
            return torch.where(numbers > 0, numbers, weight * numbers)
        result: Tensor = self.function(numbers.clone(), *rest[: _num_options(self.name)], **named)
        return result


def _num_options(name: str) -> int:
    """Return how many arguments after the first are options that shape the function; the rest is `inplace`."""
    return {"hardtanh": 2, "softplus": 2, "rrelu": 2, "leaky_relu": 1, "elu": 1, "celu": 1}.get(name, 0)


def trace(model: nn.Module, images: Tensor, seen: Seen | None = None) -> tuple[Trace, Any]:
    """Run a network on images [batch, channels, height, width] and say what follows each of its layers.

    The network runs in the mode in which it is, and gradients are kept as usual.

    Returns:
        The trace, and the output of the network.
    """
    found = Trace()
    ways = _Ways(found, seen)
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, WEIGHTED):
            handles.append(layer.register_forward_hook(_weighted(name, ways)))
        elif is_norm(layer):
            handles.append(layer.register_forward_hook(_normed(name, ways)))
    try:
        ways.put(images, _Way())
        with ways:
            output = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found, output


def is_norm(layer: nn.Module) -> bool:
    """Tell whether a layer normalises and scales: batch, layer, group or instance, torch's or anybody's."""
    return "norm" in type(layer).__name__.lower() and layer._parameters.get("weight") is not None


def _weighted(name: str, ways: _Ways) -> Callable[..., None]:
    def look(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if name not in ways.trace.order:
            ways.trace.order.append(name)
        depth = max((way.depth for way in ways.of(*inputs)), default=0)
        ways.put(output, _Way(layers=frozenset({name}), depth=depth + 1))

    return look


def _normed(name: str, ways: _Ways) -> Callable[..., None]:
    def look(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for way in ways.of(output):  # an activation within the norm, as in timm's, leaves nothing of it
            ways.put(output, _Way(way.layers, frozenset({name}), way.depth))

    return look
