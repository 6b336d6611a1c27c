"""From the curve of a range test, loss against rate, to a rate: pure functions.

A range test trains for some steps while the rate grows by equal factors (Smith 2017, section 3.3, where it grows by
equal amounts). The loss stands, falls, and rises again when the rate is too high. Raw losses are noisy, because every
step sees another batch, and the first ones may be spikes; so everything here is read from a smoothed curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]

_MEDIAN = 7
"""Points in the running median: three wrong ones beside each other do not move it."""
_WIDTH = 0.03
"""Deviation of the smoothing kernel, as a share of the points."""
_VALLEY = 0.1
"""Losses are low within this share of the fall from the lowest; the edge lies where they leave it."""
_LEAST_FALL = 0.01
"""Of the logarithm of the loss; what falls by less than 1 % does not fall."""
_BEYOND_NOISE = 9.0
"""A fall has to be this many deviations of the smoothed curve, since it lies between the largest and the least of many
points; of 1,500 curves of nothing but noise, one or two come as far."""
FEWEST_POINTS = 10
"""That a curve can be read from."""


@dataclass(frozen=True, slots=True)
class RangeReading:
    """What a curve says; rates are in the unit that they were given in."""

    smoothed: Curve
    """The loss without its noise, [points]."""
    steepest: float | None
    """Where the loss falls fastest; None if it never falls."""
    edge: float | None
    """Where it rises for good; None if it never rises within the rates that were measured."""
    suggestion: float | None
    """A peak rate to train with; None if the loss never falls."""


def read_range(rates: Sequence[float], losses: Sequence[float]) -> RangeReading:
    """Read a range test.

    The suggestion is the middle, by factors, of the rates at which the loss is low. Their upper end is the edge, at
    which a network that has hardly been trained ceases to learn; where the loss never rises it is the largest rate
    measured. Taken from both ends, the middle depends little on where in a flat valley the noise puts the lowest point.

    Args:
        rates: growing, [points].
        losses: of the batch at each rate, before its update, [points]; what is not finite counts as the end.

    Raises:
        ValueError: the lengths differ, there are fewer than 10 points, or the rates do not grow.
    """
    _check(rates, losses)
    position = np.log(np.asarray(rates, dtype=np.float64))
    values = smoothed_log(losses)
    low = int(values.argmin())
    before = values[: low + 1]
    top = int(len(before) - 1 - before[::-1].argmax())  # the last of the highest: where the fall begins
    fall = float(values[top] - values[low])
    if low == 0 or fall < max(_LEAST_FALL, _BEYOND_NOISE * _noise(losses, values)):
        return RangeReading(np.exp(values), None, None, None)
    slopes = np.gradient(values, position)[top : low + 1]
    steepest = float(rates[top + int(slopes.argmin())])
    bound = values[low] + _VALLEY * fall
    first = top + int(np.flatnonzero(values[top : low + 1] <= bound)[0])
    above = np.flatnonzero(values[low:] > bound)
    edge = float(rates[low + int(above[0])]) if len(above) else None
    upper = float(rates[-1]) if edge is None else edge
    return RangeReading(np.exp(values), steepest, edge, (float(rates[first]) * upper) ** 0.5)


def smoothed_log(losses: Sequence[float]) -> Curve:
    """Return the logarithm of the losses without spikes and noise, [points].

    A running median, then a Gaussian kernel over the steps, which are even in the logarithm of the rate. Unlike a
    one-sided moving average it does not lag behind, so that the edge stays where it is. At the ends the median
    is that of the nearest seven points. What rises above the level that it fell from is cut off there, or the kernel
    would smear an explosion over the rates before it.
    """
    raw = np.asarray(losses, dtype=np.float64)
    finite = raw[np.isfinite(raw) & (raw > 0)]
    low, high = (finite.min(), finite.max()) if len(finite) else (1.0, 1.0)
    values = np.log(np.clip(np.nan_to_num(raw, nan=np.inf, posinf=np.inf), low, 10 * high))
    count = len(values)
    firsts = np.clip(np.arange(count) - _MEDIAN // 2, 0, count - _MEDIAN)
    medians = np.array([np.median(values[first : first + _MEDIAN]) for first in firsts])
    medians = np.minimum(medians, medians[: int(medians.argmin()) + 1].max())
    steps = np.arange(count)
    kernel = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / max(_WIDTH * count, 1.0)) ** 2)
    return (kernel @ medians) / kernel.sum(1)


def _noise(losses: Sequence[float], values: Curve) -> float:
    """Estimate the deviation of the smoothed curve from the differences between neighbours in the raw one."""
    raw = np.asarray(losses, dtype=np.float64)
    usable = np.log(raw[np.isfinite(raw) & (raw > 0)])
    if len(usable) < 2:
        return 0.0
    deviation = 1.4826 * float(np.median(np.abs(np.diff(usable)))) / 2**0.5
    window = 2 * np.pi**0.5 * max(_WIDTH * len(values), 1.0)  # independent points within the kernel
    return deviation / window**0.5


def _check(rates: Sequence[float], losses: Sequence[float]) -> None:
    if len(rates) != len(losses):
        raise ValueError(f"{len(rates)} rates and {len(losses)} losses: they belong together")
    if len(rates) < FEWEST_POINTS:
        raise ValueError(f"{len(rates)} points are too few to read a range from: at least {FEWEST_POINTS}")
    if min(rates) <= 0 or any(after <= before for before, after in pairwise(rates)):
        raise ValueError("the rates of a range test are above zero and grow")
