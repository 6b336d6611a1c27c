"""What the numbers of one pass say about the training to come."""

import math
from collections.abc import Collection, Sequence
from typing import Literal

from halftone.base.errors import listed
from halftone.base.records import Record

TOLERANCE = 1000.0
"""How many times weaker or stronger the last layer's numbers may be than the first one's.

Set by experiment: see "How the limit was found" in the guide.
"""
_LOST = 10_000.0
"""Where networks of that experiment no longer began to learn at all."""
_MANY = 0.5
"""Share of dead units in a layer, or of saturated numbers, that is worth a word."""

Outcome = Literal["vanishes", "explodes", "healthy"]


class LayerHealth(Record):
    """The numbers of one layer in one pass; None where they are not finite or there are none."""

    name: str
    activation: str | None
    """The function that follows, behind any norm or pooling."""
    mean: float | None
    """Of the output, before the activation."""
    std: float | None
    activation_std: float | None = None
    """Standard deviation after the activation."""
    dead: float = 0.0
    """Share of the units, channels or features, that are zero for all images and at all places."""
    saturated: float = 0.0
    """Share of the numbers within a hundredth of the bounds of a tanh or sigmoid."""
    gradient: float | None = None
    """Norm of the gradient with respect to the output, over the batch."""
    weight_gradient: float | None
    """Standard deviation of the gradient with respect to the weight."""


class WeightsVerdict(Record):
    """A judgement, with the figures it rests on."""

    outcome: Outcome
    text: str
    activations: float | None
    """Deviation of the last hidden layer's output over that of the first; None where one is zero or not finite."""
    gradients: float | None
    """Norm of the gradient at the first layer over that at the last hidden one; None likewise."""

    @property
    def distance(self) -> float:
        """How far activations and gradients are from keeping their size, in powers of e; infinite without figures."""
        return max(math.inf if ratio is None else abs(math.log(ratio)) for ratio in (self.activations, self.gradients))


def judge(layers: Sequence[LayerHealth], *, head: Collection[str]) -> WeightsVerdict:
    """Say whether a network can learn from where it begins.

    Activations are compared by their deviation, which each layer should hand on as it is. Gradients are compared by
    their norm, which does not depend on how many places a layer has. The head is left out: its gradient is that of the
    loss, and it may begin at zero.

    Args:
        layers: in the order in which they are called.
        head: names of the layers that name the classes.
    """
    hidden = [layer for layer in layers if layer.name not in head]
    if len(hidden) < 2:
        return _verdict("healthy", "too few layers to fade", 1.0, 1.0)
    loud = next((layer.name for layer in hidden if layer.std is None or layer.gradient is None), None)
    if loud is not None:
        return _verdict("explodes", f"the numbers of {loud} are not finite")
    silent = next((layer.name for layer in hidden if not layer.std or layer.dead == 1), None)
    if silent is not None:
        return _verdict("vanishes", f"{silent} gives the same for every image; expect no learning")
    reached = [layer for layer in hidden if layer.gradient]
    if reached and not hidden[0].gradient:
        return _verdict("vanishes", f"no gradient reaches {hidden[0].name}; expect no learning")
    activations = _ratio(hidden[-1].std, hidden[0].std)
    # behind a head at zero there is no gradient yet, and none in a residual branch that begins at zero
    gradients = _ratio(reached[0].gradient, reached[-1].gradient) if reached else 1.0
    outcome, text = _compared(activations, gradients, len(hidden))
    return _verdict(outcome, text + _besides(hidden), activations, gradients)


def _compared(activations: float, gradients: float, num_layers: int) -> tuple[Outcome, str]:
    """Say what two ratios mean, the worse of them first."""
    said = {"activations": activations, "gradients": gradients}
    least, most = min(said, key=lambda name: said[name]), max(said, key=lambda name: said[name])
    if said[most] > TOLERANCE:
        text = f"{most} grow by a factor of {said[most]:.2g} over {num_layers} layers; expect it to diverge"
        return "explodes", text
    if said[least] < 1 / TOLERANCE:
        expected = "no learning" if said[least] < 1 / _LOST else "a late start, or no learning"
        text = f"{least} fall by a factor of {1 / said[least]:.2g} over {num_layers} layers; expect {expected}"
        return "vanishes", text
    changes = " and ".join(f"{name} {_change(ratio)}" for name, ratio in said.items())
    return "healthy", f"{changes} over {num_layers} layers"


def _change(ratio: float) -> str:
    if 0.5 < ratio < 2:
        return "keep their size"
    return f"grow by a factor of {ratio:.2g}" if ratio > 1 else f"fall by a factor of {1 / ratio:.2g}"


def _besides(hidden: Sequence[LayerHealth]) -> str:
    """Name layers in which many units are dead or many numbers saturated."""
    parts = []
    for what, shares in (("dead", {one.name: one.dead for one in hidden}),
                         ("saturated", {one.name: one.saturated for one in hidden})):  # fmt: skip
        names = [name for name, share in shares.items() if share > _MANY]
        if names:
            parts.append(f"; more than half {what} in {listed(names, most=3)}")
    return "".join(parts)


def _ratio(last: float | None, first: float | None) -> float:
    assert last and first
    return last / first


def _verdict(
    outcome: Outcome, text: str, activations: float | None = None, gradients: float | None = None
) -> WeightsVerdict:
    return WeightsVerdict(outcome=outcome, text=f"{outcome}: {text}", activations=activations, gradients=gradients)
