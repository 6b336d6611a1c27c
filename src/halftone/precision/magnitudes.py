"""How large the numbers in a tensor are, and what a format would make of them.

One histogram of exponents answers for every format and every loss scale: a scale of 2^k moves it by k places.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halftone.precision.formats import Format

LOWEST = -150
"""The exponent of the first bin; the smallest fp32 number is 2^-149."""
_NUM_BINS = 280


@dataclass(slots=True)
class Magnitudes:
    """Counts of values by their exponent; those of several tensors add up."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(_NUM_BINS, dtype=torch.int64))
    """[bins]; bin i holds values from 2^(LOWEST + i) up to twice that."""
    zeros: int = 0
    not_finite: int = 0
    largest: float = 0.0
    """Of the finite values."""

    @torch.no_grad()
    def add(self, tensor: Tensor) -> None:
        """Count a tensor's values."""
        values = tensor.detach().float().abs().flatten()
        finite = values[values.isfinite()]
        nonzero = finite[finite > 0]
        exponents = torch.frexp(nonzero).exponent.long() - 1 - LOWEST
        self.counts += torch.bincount(exponents.clamp(0, _NUM_BINS - 1), minlength=_NUM_BINS).cpu()
        self.zeros += len(finite) - len(nonzero)
        self.not_finite += len(values) - len(finite)
        if len(nonzero):
            self.largest = max(self.largest, float(nonzero.max()))

    @property
    def nonzero(self) -> int:
        """Finite values other than zero."""
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        """All values."""
        return self.nonzero + self.zeros + self.not_finite

    def between(self, low: float, high: float) -> int:
        """Return how many values have an exponent of at least `low` and below `high`."""
        first, last = (int(min(max(bound - LOWEST, 0), _NUM_BINS)) for bound in (low, high))
        return int(self.counts[first:last].sum())

    def middle(self) -> float | None:
        """Return the exponent of the median of the nonzero values, or None if there are none."""
        if not self.nonzero:
            return None
        return float(torch.searchsorted(self.counts.cumsum(0), self.nonzero / 2)) + LOWEST


@dataclass(frozen=True, slots=True)
class Fit:
    """What a format makes of the values: shares of those that are neither zero nor infinite already."""

    underflow: float
    """Become zero."""
    subnormal: float
    """Are kept with fewer bits, or round up to the smallest number."""
    overflow: float
    """Become infinite (in formats of eight bits, are cut off)."""
    headroom: float | None
    """Bits between the largest value and the largest of the format; None if all are zero."""


def fit(values: Magnitudes, held: Format, *, scale: float = 1.0) -> Fit:
    """Say what a format makes of values times a scale, to the next power of two."""
    shift = math.log2(scale)
    smallest, normal, largest = (math.log2(bound) for bound in (held.smallest, held.smallest_normal, held.largest))
    count = max(values.nonzero, 1)
    vanish = math.ceil(smallest - 1 - shift)  # half of the smallest number rounds to zero
    return Fit(
        underflow=values.between(LOWEST, vanish) / count,
        subnormal=values.between(vanish, math.ceil(normal - shift)) / count,
        overflow=values.between(math.ceil(largest - shift), LOWEST + _NUM_BINS) / count,
        headroom=largest - shift - math.log2(values.largest) if values.largest else None,
    )


def loss_scale_for(largest: float, held: Format, *, margin: int = 4, cap: float = 2.0**24) -> float:
    """Return the largest power of two that leaves gradients up to `largest` a margin of bits below the format's end.

    After Micikevicius et al. 2018, section 3.2: any scale does that makes nothing overflow; a larger one saves more.
    """
    if largest <= 0:
        return 1.0
    return float(min(cap, max(1.0, 2.0 ** math.floor(math.log2(held.largest / largest) - margin))))
