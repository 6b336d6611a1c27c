"""Against scipy and statsmodels, and against simulated experiments."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from halftone.comparison.verdicts.agreement import agreement, mcnemar
from halftone.comparison.verdicts.statistics import (
    Sample,
    bonferroni,
    equivalence,
    equivalence_power,
    further_pairs,
    holm,
    paired_interval,
    ratio_of,
    summarise,
)

MARGIN = 0.005
rng = np.random.default_rng(20)
PAIRS = [(rng.normal(0.9, 0.01, n), rng.normal(0.902, 0.01, n)) for n in (2, 3, 5, 10, 40)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda values: str(len(values)))
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_scipy(ours: np.ndarray, theirs: np.ndarray, confidence: float) -> None:
    found = paired_interval(ours - theirs, confidence)
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(confidence)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(ours - theirs), low, high))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.p_value == pytest.approx(stats.ttest_1samp(ours - theirs, 0).pvalue)
    assert (found.num_pairs, found.deviation) == (len(ours), pytest.approx(np.std(ours - theirs, ddof=1)))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda values: str(len(values)))
@pytest.mark.parametrize("margin", [0.001, 0.005, 0.02, 0.1])
def test_equivalence_is_that_of_statsmodels(ours: np.ndarray, theirs: np.ndarray, margin: float) -> None:
    found = equivalence(ours - theirs, margin)
    expected = ttost_paired(ours, theirs, -margin, margin)[0]
    assert found is not None
    assert found.p_value == pytest.approx(expected)
    assert found.shown == (expected <= 0.05)


@pytest.mark.parametrize(
    "p_values", [[0.03], [0.01, 0.04, 0.03], [0.0, 0.02, 0.02, 1.0], [0.2, 0.04, 0.011, 0.011, 0.6, 0.03, 0.0001]]
)
def test_corrections_are_those_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    expected = multipletests(p_values, method="bonferroni")[1]
    assert [bonferroni(value, len(p_values)) for value in p_values] == pytest.approx(list(expected))


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values: list[float]) -> None:
    for value, corrected in zip(p_values, holm(p_values), strict=True):
        assert value <= corrected <= bonferroni(value, len(p_values))


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_that_of_statsmodels(ours: int, theirs: int) -> None:
    if ours + theirs == 0:
        assert mcnemar(ours, theirs) == 1
    else:
        expected = their_mcnemar([[7, ours], [theirs, 9]], exact=True).pvalue
        assert mcnemar(ours, theirs) == pytest.approx(min(1, expected), rel=1e-9, abs=1e-12)


def test_one_pair_has_no_interval() -> None:
    assert paired_interval([0.1]) is None
    assert equivalence([0.1], MARGIN) is None
    assert paired_interval([]) is None
    assert paired_interval([0.1, None, math.nan, math.inf]) is None


def test_what_is_no_number_is_left_out() -> None:
    with_gaps = paired_interval([0.1, None, 0.3, math.nan, 0.2, -math.inf])
    assert with_gaps == paired_interval([0.1, 0.3, 0.2])


def test_equal_differences_have_no_spread() -> None:
    none, some = paired_interval([0.0] * 4), paired_interval([0.1] * 3)
    assert none is not None
    assert some is not None
    assert (none.mean, none.low, none.high, none.deviation, none.p_value) == (0, 0, 0, 0, None)
    assert (some.low, some.high, some.p_value) == (0.1, 0.1, 0)
    same, other = equivalence([0.0] * 4, MARGIN), equivalence([MARGIN] * 4, MARGIN)
    assert same is not None
    assert other is not None
    assert (same.shown, same.p_value, same.num_more) == (True, 0, 0)
    assert (other.shown, other.p_value, other.num_more) == (False, 1, None)


def test_coarse_differences_that_are_equal_have_the_spread_of_rounding() -> None:
    step = 1 / 360
    found = paired_interval([step] * 5, step=step)
    assert found is not None
    error = step / math.sqrt(12) / math.sqrt(5)
    assert found.low == pytest.approx(step - stats.t.ppf(0.975, 4) * error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(step / error, 4))
    coarse = equivalence([0.0, 0.0], MARGIN, step=1 / 50)
    assert coarse is not None
    assert not coarse.shown


@pytest.mark.parametrize("largest", [1e30, 1e200, sys.float_info.max])
def test_huge_values_stay_finite(largest: float) -> None:
    found = paired_interval([largest, -largest / 2, largest / 4])
    assert found is not None
    assert found.mean == pytest.approx(largest / 4)
    assert all(math.isfinite(value) for value in (found.low, found.high, found.deviation))
    assert found.p_value == pytest.approx(stats.ttest_1samp([1, -0.5, 0.25], 0).pvalue)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: list[float], unit: float) -> None:
    found, scaled = paired_interval(values), paired_interval([unit * value for value in values])
    assert found is not None
    assert scaled is not None
    assert (scaled.low, scaled.high) == pytest.approx((unit * found.low, unit * found.high), abs=1e-9 * unit)


def test_equivalence_is_a_narrower_interval_within_the_margin() -> None:
    """Both tests at 5 % are the 90 % interval within the margin (Schuirmann 1987)."""
    for _ in range(200):
        values = rng.normal(0.002, 0.003, 6)
        interval, found = paired_interval(values, 0.9), equivalence(values, MARGIN)
        assert interval is not None
        assert found is not None
        assert found.shown == (interval.low > -MARGIN and interval.high < MARGIN)


@pytest.mark.parametrize(
    ("num_pairs", "mean", "deviation"), [(3, 0, 0.001), (5, 0.002, 0.003), (5, 0, 0.004), (12, -0.003, 0.003)]
)
def test_the_power_is_that_of_simulated_experiments(num_pairs: int, mean: float, deviation: float) -> None:
    values = np.random.default_rng(3).normal(mean, deviation, (40_000, num_pairs))
    error = values.std(1, ddof=1) / math.sqrt(num_pairs)
    reach = stats.t.ppf(0.95, num_pairs - 1) * error
    shown = np.mean((values.mean(1) - reach > -MARGIN) & (values.mean(1) + reach < MARGIN))
    assert equivalence_power(num_pairs, mean, deviation, MARGIN) == pytest.approx(shown, abs=0.01)


def test_the_power_is_near_that_of_the_noncentral_t() -> None:
    """Where one bound is far, the tests are one, and its power is known in closed form."""
    for num_pairs in (4, 8, 30):
        shift = (MARGIN - 0.003) / 0.002 * math.sqrt(num_pairs)
        expected = stats.nct.sf(stats.t.ppf(0.95, num_pairs - 1), num_pairs - 1, shift)
        assert equivalence_power(num_pairs, 0.003, 0.002, MARGIN) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.004), (0.002, 0.005), (-0.003, 0.008)])
def test_further_pairs_are_the_fewest_with_that_power(mean: float, deviation: float) -> None:
    sample = Sample(5, mean, deviation, deviation / math.sqrt(5))
    more = further_pairs(sample, MARGIN)
    assert more is not None
    assert equivalence_power(5 + more, mean, deviation, MARGIN) >= 0.8
    assert equivalence_power(5 + more - 1, mean, deviation, MARGIN) < 0.8


def test_no_number_of_pairs_is_no_number() -> None:
    outside, wide = summarise([0.004, 0.008, 0.007]), summarise([-0.5, 0.5, 0.1])
    assert outside is not None
    assert wide is not None
    assert further_pairs(outside, MARGIN) is None
    assert further_pairs(wide, MARGIN) is None


def test_ratios_are_taken_pair_by_pair() -> None:
    found = ratio_of([(1.0, 2.0), (3.0, 4.0), (None, 1.0), (5.0, None), (2.0, 2.0), (0.0, 1.0), (1.0, 0.0)])
    assert found is not None
    assert (found.median, found.low, found.high, found.num_pairs) == (0.75, 0.5, 1.0, 3)
    assert ratio_of([(None, 1.0), (1.0, 0.0)]) is None


def test_agreement_counts_all_pairs_and_tests_the_first() -> None:
    labels = [0, 1, 2, 0, 1]
    ours = list(zip(labels, [0, 1, 2, 0, 0], strict=True))
    theirs = list(zip(labels, [0, 0, 0, 1, 1], strict=True))
    found = agreement([(None, theirs), (ours, theirs), (theirs, theirs)])
    assert found is not None
    assert (found.num_images, found.only_variant, found.only_baseline) == (10, 3, 1)
    assert found.same == pytest.approx((1 + 5) / 10)
    assert found.p_value == pytest.approx(stats.binomtest(1, 4).pvalue)


def test_predictions_of_other_images_are_no_pair() -> None:
    assert agreement([([(0, 0), (1, 1)], [(1, 0), (0, 1)]), ([(0, 0)], [(0, 0), (1, 1)]), ([], [])]) is None
