"""The health of a network in a format: what each layer would lose, and what keeps it from losing it."""

from collections.abc import Mapping

from halftone.base.records import Record
from halftone.precision.formats import FORMATS
from halftone.precision.magnitudes import Fit, Magnitudes, fit, loss_scale_for
from halftone.precision.watch import WHOLE, LayerNumbers

LOST = 0.05
"""A layer that loses a larger share of its gradient, with the loss scale, is kept in fp32."""
_LITTLE_HEADROOM = 1.0
"""Bits; an output that comes so near to the end of the format may pass it in the next step."""
_SCALED = ("fp16",)
"""Formats for which the loss is scaled; those of eight bits scale each tensor, the others have the range of fp32."""


class Shares(Record):
    """What a format makes of the numbers in one place."""

    zeros: float
    """Share that is zero as it is, of all."""
    underflow: float
    """Share that becomes zero, of those that are not."""
    subnormal: float
    overflow: float
    headroom_bits: float | None
    """From the largest value to the end of the format."""
    median_exponent: float | None
    """Log2 of the median magnitude."""


class LayerHealth(Record):
    """One layer in a format."""

    name: str
    output: Shares
    gradient: Shares
    """Without a loss scale."""
    scaled_gradient: Shares
    """With the proposed one."""
    weight_gradient: Shares
    scaled_weight_gradient: Shares
    keep: str = ""
    """Why it should stay in fp32; empty if it need not."""

    @property
    def lost(self) -> float:
        """The larger share of a gradient that underflows without a loss scale."""
        return max(self.gradient.underflow, self.weight_gradient.underflow)

    @property
    def lost_scaled(self) -> float:
        """The same with the proposed one."""
        return max(self.scaled_gradient.underflow, self.scaled_weight_gradient.underflow)


class Health(Record):
    """A network in a format."""

    format: str
    loss_scale: float
    """That is proposed; 1 where none is needed."""
    layers: tuple[LayerHealth, ...]

    @property
    def keep(self) -> tuple[str, ...]:
        """Layers to keep in fp32."""
        return tuple(layer.name for layer in self.layers if layer.keep)


def health(numbers: Mapping[str, LayerNumbers], name: str, *, scale_cap: float = 2.0**24) -> Health:
    """Judge the numbers of a network in fp32 by what a format would make of them.

    Args:
        numbers: of each layer, as they were watched.
        name: of the format, one of `FORMATS`.
        scale_cap: the largest loss scale to propose.
    """
    held = FORMATS[name]
    gradients = [part for found in numbers.values() for part in (found.gradient, found.weight_gradient)]
    largest = max((part.largest for part in gradients), default=0.0)
    scale = loss_scale_for(largest, held, cap=scale_cap) if name in _SCALED else 1.0
    own_scale = name.startswith("fp8")
    layers = []
    for layer, found in numbers.items():
        if not found.output.total:
            continue

        def judged(part: Magnitudes, by: float = 1.0) -> Shares:
            by = held.largest / part.largest if own_scale and part.largest else by
            return _shares(part, fit(part, held, scale=by))

        one = LayerHealth(
            name=layer,
            output=judged(found.output),
            gradient=judged(found.gradient),
            scaled_gradient=judged(found.gradient, scale),
            weight_gradient=judged(found.weight_gradient),
            scaled_weight_gradient=judged(found.weight_gradient, scale),
        )
        layers.append(one if layer == WHOLE else one.replaced(keep=_reason_to_keep(one, scale)))
    return Health(format=name, loss_scale=scale, layers=tuple(layers))


def _shares(values: Magnitudes, found: Fit) -> Shares:
    return Shares(
        zeros=values.zeros / values.total if values.total else 0.0,
        underflow=found.underflow,
        subnormal=found.subnormal,
        overflow=found.overflow,
        headroom_bits=found.headroom,
        median_exponent=values.middle(),
    )


def _reason_to_keep(layer: LayerHealth, scale: float) -> str:
    output, headroom = layer.output, layer.output.headroom_bits
    if output.overflow:
        return f"{output.overflow:.2%} of its output overflows"
    if headroom is not None and headroom < _LITTLE_HEADROOM and scale != 1.0:
        return f"its output is {headroom:.1f} bits from overflowing"
    if layer.lost_scaled > LOST:
        return f"{layer.lost_scaled:.1%} of its gradient is lost even with a loss scale of {scale:g}"
    return ""
