"""What the numbers of one pass say about the training to come."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from halftone.base.errors import listed
from halftone.base.records import Record

WEAKER = 1000.0
"""How many times weaker activations or gradients may be at the end of their way than at its beginning.

Set by experiment, as all of these: see "How the limits were found" in the guide.
"""
STRONGER = {"activations": 100.0, "gradients": 1000.0}
"""How many times stronger they may be."""
_LOST = 3000.0
"""How many times weaker they are where networks no longer began to learn at all."""
_MANY = 0.5
"""Share of dead units in a layer, or of saturated numbers, that is worth a word."""

Outcome = Literal["vanishes", "explodes", "healthy"]


class LayerHealth(Record):
    """The numbers of one layer in one pass; None where they are not finite or there are none."""

    name: str
    activation: str | None
    """The function that follows, behind any norm or pooling."""
    finite: bool = True
    """Whether all of its numbers are finite."""
    mean: float | None
    """Of the output before the activation, and behind the norm that takes it, if one does; so are std and gradient."""
    std: float | None
    activation_std: float | None = None
    """Standard deviation after the activation."""
    dead: float = 0.0
    """Share of the units, channels or features, that are zero for all images and at all places."""
    saturated: float = 0.0
    """Share of the numbers within a hundredth of the bounds of a tanh or sigmoid."""
    gradient: float | None = None
    """Norm of the gradient with respect to the output, over the batch; none comes down below frozen layers."""
    input_gradient: float | None = None
    """Of a head: norm of the gradient with respect to what it takes, where the gradient's way down begins."""
    weight_gradient: float | None = None
    """Standard deviation of the gradient with respect to the weight; a frozen one has none."""


class WeightsVerdict(Record):
    """A judgement, with the figures it rests on."""

    outcome: Outcome
    text: str
    activations: float | None
    """Deviation of the last hidden layer's output over that of the first; None where there is nothing to compare."""
    gradients: float | None
    """Norm of the gradient at the first layer over that of what the head takes; None likewise."""

    @property
    def distance(self) -> float:
        """How far activations and gradients are from keeping their size, in powers of e."""
        return max((abs(math.log(ratio)) for ratio in (self.activations, self.gradients) if ratio), default=0.0)


def judge(layers: Sequence[LayerHealth], *, head: Collection[str]) -> WeightsVerdict:
    """Say whether a network can learn from where it begins.

    Activations are compared by their deviation, which each layer should hand on as it is. Gradients are compared by
    their norm, which does not depend on how many places a layer has. The head's own output is left out: its gradient
    is that of the loss, and it may begin at zero.

    Args:
        layers: in the order in which they are called.
        head: names of the layers that name the classes.
    """
    hidden = [layer for layer in layers if layer.name not in head]
    loud = next((layer.name for layer in hidden if not layer.finite), None)
    if loud is not None:
        return _verdict("explodes", f"the numbers of {loud} are not finite")
    heard = [layer for layer in hidden if layer.std]  # without branches that begin at zero
    reached = [layer for layer in hidden if layer.gradient]
    if hidden and (not heard or not reached or hidden[0].gradient == 0):
        silent = _silent(hidden)
        if silent is not None:
            return _verdict("vanishes", f"{silent} gives the same for every image; expect no learning")
        if reached:
            return _verdict("vanishes", f"no gradient reaches {hidden[0].name}; expect no learning")
    if len(hidden) < 2:
        return _verdict("healthy", "too few layers to fade")
    said = {"activations": _ratio(heard[-1].std, heard[0].std)}
    if reached:
        said["gradients"] = _ratio(reached[0].gradient, gradient_above(layers) or reached[-1].gradient)
    outcome, text = _compared(said, len(hidden))
    return _verdict(outcome, text + _besides(hidden), **said)


def gradient_above(layers: Sequence[LayerHealth]) -> float | None:
    """Return the norm of the gradient of what the head takes; None if there is no gradient or no head known."""
    return next((layer.input_gradient for layer in reversed(layers) if layer.input_gradient), None)


def _silent(hidden: Sequence[LayerHealth]) -> str | None:
    """Name the first layer behind which nothing varies, shortcuts around it included."""
    for layer in hidden:
        if layer.dead == 1 or (layer.activation is not None and not layer.activation_std):
            return layer.name
    return hidden[0].name if not any(layer.std for layer in hidden) else None


def _compared(said: Mapping[str, float], num_layers: int) -> tuple[Outcome, str]:
    """Say what ratios mean, the worst of them first."""
    least, most = min(said, key=lambda name: said[name]), max(said, key=lambda name: said[name] / STRONGER[name])
    if said[most] > STRONGER[most]:
        expected = "divergence, or a long way back"
        return "explodes", f"{most} grow by a factor of {said[most]:.2g} over {num_layers} layers; expect {expected}"
    if said[least] < 1 / WEAKER:
        expected = "no learning" if said[least] < 1 / _LOST else "a late start, or no learning"
        text = f"{least} fall by a factor of {1 / said[least]:.2g} over {num_layers} layers; expect {expected}"
        return "vanishes", text
    changes = " and ".join(f"{name} {_change(ratio)}" for name, ratio in said.items())
    silence = "" if "gradients" in said else "; no gradient comes down to them: the head is zero or they are frozen"
    return "healthy", f"{changes} over {num_layers} layers{silence}"


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
    assert last is not None and first is not None
    return last / first


def _verdict(
    outcome: Outcome, text: str, activations: float | None = None, gradients: float | None = None
) -> WeightsVerdict:
    return WeightsVerdict(outcome=outcome, text=f"{outcome}: {text}", activations=activations, gradients=gradients)
