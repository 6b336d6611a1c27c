"""Whether gradients in one precision agree with those in another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Gradients = Mapping[str, Tensor]
"""By the name of the parameter."""


@dataclass(frozen=True, slots=True)
class LayerAgreement:
    """One parameter's gradient beside the reference."""

    name: str
    cosine: float
    """Of the angle between both; 1 where they point the same way."""
    relative_error: float
    """Norm of the difference over the norm of the reference."""
    underflow: float
    """Share of the values that are zero here and not in the reference."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A network's gradient beside the reference."""

    cosine: float
    """Of all parameters as one vector."""
    relative_error: float
    underflow: float
    layers: tuple[LayerAgreement, ...]

    @property
    def worst(self) -> LayerAgreement:
        """The parameter whose gradient agrees least."""
        return min(self.layers, key=lambda layer: layer.cosine)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's gradients in fp32; they are taken off its parameters."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.detach().float().clone()
            parameter.grad = None
    return found


@torch.no_grad()
def agreement(gradients: Gradients, reference: Gradients) -> Agreement:
    """Compare gradients with those of the same step in another precision; a missing one counts as zero."""
    pairs = {name: (gradients.get(name, torch.zeros_like(wanted)), wanted) for name, wanted in reference.items()}
    sums = {name: _sums(found, wanted) for name, (found, wanted) in pairs.items()}
    total = _Sums(*(sum(column) for column in zip(*(_values(part) for part in sums.values()), strict=True)))
    layers = tuple(LayerAgreement(name, part.cosine, part.error, part.underflow) for name, part in sums.items())
    return Agreement(total.cosine, total.error, total.underflow, layers)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over values; those of several parameters add up."""

    product: float
    found: float
    wanted: float
    difference: float
    lost: float
    nonzero: float

    @property
    def cosine(self) -> float:
        length = (self.found * self.wanted) ** 0.5
        return self.product / length if length else float(self.found == self.wanted)

    @property
    def error(self) -> float:
        return (self.difference / self.wanted) ** 0.5 if self.wanted else self.difference**0.5

    @property
    def underflow(self) -> float:
        return self.lost / self.nonzero if self.nonzero else 0.0


def _values(sums: _Sums) -> Iterator[float]:
    return (getattr(sums, name) for name in _Sums.__slots__)


def _sums(found: Tensor, wanted: Tensor) -> _Sums:
    one, other = found.double().flatten(), wanted.double().flatten()
    nonzero = other != 0
    return _Sums(
        product=float(one @ other),
        found=float(one @ one),
        wanted=float(other @ other),
        difference=float(((one - other) ** 2).sum()),
        lost=float((nonzero & (one == 0)).sum()),
        nonzero=float(nonzero.sum()),
    )
