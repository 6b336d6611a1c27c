"""Statistics of paired differences: intervals, equivalence within a margin, power, ratios, corrections.

Values that are None or not finite are left out. Fewer than two pairs have no spread, and so no interval.
"""

import math
import statistics
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, ndtr, stdtr, stdtrit

from halftone.comparison.records import Equivalence, Interval, Ratio

POWER = 0.8
"""With which further pairs should show an equivalence."""
MOST_PAIRS = 1000
"""Further pairs that are looked at; who would need more should rather think again."""
_QUANTILES = (np.arange(500) + 0.5) / 500


class Sample(NamedTuple):
    """What is left of paired differences."""

    num_pairs: int
    mean: float
    deviation: float
    """Sample standard deviation."""
    error: float
    """Standard error of the mean, from a deviation that is not below that of rounding."""

    @property
    def freedom(self) -> int:
        """Degrees of freedom."""
        return self.num_pairs - 1


def summarise(differences: Iterable[float | None], step: float = 0.0) -> Sample | None:
    """Return mean and spread of paired differences, or None for fewer than two.

    Args:
        differences: one for each pair.
        step: in which they can change at all, such as one image of all. Differences that are equal because they are
            coarse still have the spread of rounding, step / sqrt(12) (Sheppard 1898).
    """
    values = finite(differences)
    if len(values) < 2:
        return None
    mean, deviation = values[0], 0.0
    if min(values) < max(values):  # in units of the largest, so that squares of huge values do not overflow
        largest = max(map(abs, values))
        parts = [value / largest for value in values]
        middle = math.fsum(parts) / len(parts)
        mean = middle * largest
        deviation = _bounded(math.sqrt(math.fsum((part - middle) ** 2 for part in parts) / (len(parts) - 1)) * largest)
    error = max(deviation, step / math.sqrt(12)) / math.sqrt(len(values))
    return Sample(len(values), mean, deviation, error)


def finite(values: Iterable[float | None]) -> list[float]:
    """Leave out what is None or not finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def paired_interval(
    differences: Iterable[float | None], confidence: float = 0.95, *, step: float = 0.0
) -> Interval | None:
    """Return the mean of paired differences and its interval by Student's t (Student 1908); None below two pairs.

    The p-value is two-sided, of no difference, and not corrected. It is None where all differences are zero and the
    step is not known.
    """
    sample = summarise(differences, step)
    if sample is None:
        return None
    reach = float(stdtrit(sample.freedom, (1 + confidence) / 2)) * sample.error
    return Interval(
        mean=sample.mean,
        low=_bounded(sample.mean - reach),
        high=_bounded(sample.mean + reach),
        confidence=confidence,
        num_pairs=sample.num_pairs,
        deviation=sample.deviation,
        p_value=_two_sided(sample),
    )


def equivalence(
    differences: Iterable[float | None], margin: float, alpha: float = 0.05, *, step: float = 0.0
) -> Equivalence | None:
    """Test whether the mean difference lies within a margin: two one-sided t tests, both at `alpha`.

    Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach". The p-value is the
    larger of the two, and not corrected. None below two pairs.
    """
    sample = summarise(differences, step)
    if sample is None:
        return None
    p_value = _two_one_sided(sample, margin)
    shown = p_value <= alpha
    return Equivalence(
        margin=margin,
        p_value=p_value,
        shown=shown,
        num_more=0 if shown else further_pairs(sample, margin, alpha),
    )


def further_pairs(sample: Sample, margin: float, alpha: float = 0.05) -> int | None:
    """Return how many further pairs would show equivalence with a power of 80 %, if mean and spread stay as they are.

    None if the mean is not within the margin, or if not even a thousand would.
    """
    if abs(sample.mean) >= margin:
        return None
    deviation = sample.error * math.sqrt(sample.num_pairs)
    more = range(1, MOST_PAIRS + 1)
    place = bisect_left(
        more, POWER, key=lambda more: equivalence_power(sample.num_pairs + more, sample.mean, deviation, margin, alpha)
    )
    return more[place] if place < len(more) else None


def equivalence_power(num_pairs: int, mean: float, deviation: float, margin: float, alpha: float = 0.05) -> float:
    """Return the probability that two one-sided tests show equivalence.

    Exact for normal differences: given the sample deviation, the mean must fall into an interval; that probability is
    averaged over the chi distribution of the deviation (Phillips 1990, "Power of the two one-sided tests procedure in
    bioequivalence").

    Args:
        num_pairs: at least two.
        mean: the true mean difference.
        deviation: the true standard deviation of the differences.
        margin: within which a difference counts as none.
        alpha: level of each of the two tests.
    """
    if deviation == 0:
        return float(abs(mean) < margin)
    freedom = num_pairs - 1
    critical = float(stdtrit(freedom, 1 - alpha)) * _relative_deviations(freedom)
    upper = (margin - mean) / deviation * math.sqrt(num_pairs) - critical
    lower = (-margin - mean) / deviation * math.sqrt(num_pairs) + critical
    return float(np.maximum(ndtr(upper) - ndtr(lower), 0).mean())


@lru_cache(maxsize=2 * MOST_PAIRS)
def _relative_deviations(freedom: int) -> npt.NDArray[np.float64]:
    """Return evenly spaced quantiles of sample deviation over true deviation."""
    return np.sqrt(2 * gammaincinv(freedom / 2, _QUANTILES) / freedom)


def ratio_of(pairs: Iterable[tuple[float | None, float | None]]) -> Ratio | None:
    """Return the median of the ratios pair by pair, first over second, with the range; None if no pair has both.

    Values that are not above zero are no times, memory or energy, and are left out.
    """
    ratios = finite(
        ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None and min(ours, theirs) > 0
    )
    if not ratios:
        return None
    return Ratio(median=statistics.median(ratios), low=min(ratios), high=max(ratios), num_pairs=len(ratios))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that the chance of one or more false ones keeps its level.

    Holm 1979, "A simple sequentially rejective multiple test procedure": never less powerful than Bonferroni.
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def bonferroni(p_value: float, num_tests: int) -> float:
    """Correct a p-value for the number of tests; it agrees with intervals that share the level out evenly."""
    return min(1.0, num_tests * p_value)


def _two_sided(sample: Sample) -> float | None:
    if sample.error == 0:
        return None if sample.mean == 0 else 0.0
    return 2 * float(stdtr(sample.freedom, -abs(sample.mean) / sample.error))


def _two_one_sided(sample: Sample, margin: float) -> float:
    """Return the larger p-value: that of the bound which is nearer."""
    distance = margin - abs(sample.mean)
    if sample.error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(sample.freedom, -distance / sample.error))


def _bounded(value: float) -> float:
    return min(max(value, -sys.float_info.max), sys.float_info.max)
