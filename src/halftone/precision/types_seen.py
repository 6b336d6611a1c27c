"""Which types a step really computed in, layer by layer, read from the live step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from halftone.base.records import Record
from halftone.precision.formats import name_of
from halftone.precision.policy import kind_of
from halftone.precision.watch import working_layers

_MOVES = frozenset({"_to_copy", "copy_", "clone", "detach", "empty_like", "alias", "_unsafe_view", "zeros_like"})
"""Operations that compute nothing."""


class LayerTypes(Record):
    """The types in one layer; empty where there are none."""

    name: str
    kind: str
    weights: str
    """As the layer computed with them."""
    master: str
    """As the optimizer updates them."""
    compute: str
    """Of the inputs of its operations; several are joined by +."""
    output: str
    gradient: str
    """Of the loss with respect to the output."""
    weight_gradient: str
    """As the backward pass left it."""
    state: str
    """Of the optimizer."""


@dataclass(slots=True)
class _Seen:
    weights: set[str] = field(default_factory=set)
    compute: set[str] = field(default_factory=set)
    output: set[str] = field(default_factory=set)
    gradient: set[str] = field(default_factory=set)
    weight_gradient: set[str] = field(default_factory=set)


class TypesSeen(TorchDispatchMode):
    """Notes the types of every operation under the layer that it belongs to."""

    def __init__(self, model: nn.Module) -> None:
        """Watch a network; enter the context `attached` and, for the forward pass, this one."""
        super().__init__()
        self._layers = working_layers(model)
        self._seen = {name: _Seen() for name in self._layers}
        self._inside: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._inside and not func.is_view and func.overloadpacket.__name__ not in _MOVES:
            given = [value for value in args if isinstance(value, Tensor) and value.is_floating_point()]
            self._seen[self._inside[-1]].compute |= {name_of(value.dtype) for value in given}
        return func(*args, **(kwargs or {}))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Follow the layers for as long as the context lasts."""
        handles: list[Any] = []
        for name, layer in self._layers.items():
            handles.append(layer.register_forward_pre_hook(self._enter(name)))
            handles.append(layer.register_forward_hook(self._leave(name), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(layer: nn.Module, inputs: Any) -> None:
            self._inside.append(name)
            seen = self._seen[name]
            for weight in layer.parameters(recurse=False):
                seen.weights.add(name_of(weight.dtype))
                if weight.requires_grad and weight.is_leaf:
                    weight.register_hook(lambda gradient: seen.weight_gradient.add(name_of(gradient.dtype)))

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(layer: nn.Module, inputs: Any, outputs: Any) -> None:
            self._inside.pop()
            seen = self._seen[name]
            for output in outputs if isinstance(outputs, tuple | list) else [outputs]:
                if isinstance(output, Tensor) and output.is_floating_point():
                    seen.output.add(name_of(output.dtype))
                    if output.requires_grad:
                        output.register_hook(lambda gradient: seen.gradient.add(name_of(gradient.dtype)))

        return leave

    def table(self, states: Mapping[Tensor, Mapping[str, Any]]) -> list[LayerTypes]:
        """Return what was seen, in the order of the network.

        Args:
            states: of the optimizer, by parameter.
        """
        rows = []
        for name, layer in self._layers.items():
            seen, own = self._seen[name], list(layer.parameters(recurse=False))
            if not (seen.output or own):
                continue
            held = {
                name_of(value.dtype)
                for weight in own
                for value in states.get(weight, {}).values()
                if isinstance(value, Tensor) and value.shape == weight.shape
            }
            rows.append(
                LayerTypes(
                    name=name,
                    kind=kind_of(layer) or type(layer).__name__.lower(),
                    weights=_joined(seen.weights),
                    master=_joined({name_of(weight.dtype) for weight in own}),
                    compute=_joined(seen.compute),
                    output=_joined(seen.output),
                    gradient=_joined(seen.gradient),
                    weight_gradient=_joined(seen.weight_gradient),
                    state=_joined(held),
                )
            )
        return rows


def _joined(names: set[str]) -> str:
    return "+".join(sorted(names))
