"""What measured rates mean for a plan: every decision, with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftone.run.plan.decide import Decision
from halftone.run.plan.rates import first_share, guarded_rate, range_steps, shortened_warmup, stable_limit
from halftone.run.plan.record import MeasuredRates

RULE = Decision(0.1, "0.1 per 128 images")


def measured(*, suggestion: float | None = 0.05, edge: float | None = 0.2) -> MeasuredRates:
    return MeasuredRates(steepest=0.01, edge=edge, suggestion=suggestion, highest=10.0, num_steps=60)


@pytest.mark.parametrize(
    ("found", "value", "words"),
    [
        (measured(), 0.1, "a range test of 60 steps finds it stable, up to 0.2"),
        (measured(edge=0.05, suggestion=0.0125), 0.1, "rise from 0.05 on without a warmup, near enough"),
        (measured(edge=0.02, suggestion=0.005), 0.04, "2 times the rate from which on a range test of 60 steps sees"),
        (measured(edge=None, suggestion=0.3), 0.1, "finds all rates up to 10 stable"),
        (measured(edge=None, suggestion=2.0), 0.5, "a quarter of what a range test of 60 steps suggests, 2"),
        (measured(edge=None, suggestion=None), 0.1, "the loss fell at no rate"),
        (measured(edge=0.001, suggestion=None), 0.002, "sees the loss rise, 0.001"),
        (measured(edge=8.0, suggestion=2.0), 0.5, "a quarter of what a range test of 60 steps suggests, 2"),
    ],
)
def test_the_rule_stays_unless_it_is_far_off(found: MeasuredRates, value: float, words: str) -> None:
    decision = guarded_rate(RULE, found, has_weights=False)
    assert decision.value == pytest.approx(value)
    assert words in decision.reason
    assert RULE.reason in decision.reason


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.booleans())
def test_what_comes_out_is_never_above_what_is_stable(rule: float, edge: float, has_weights: bool) -> None:
    found = measured(edge=edge, suggestion=edge / 2)
    value = guarded_rate(Decision(rule, "by rule"), found, has_weights=has_weights).value
    limit = stable_limit(found)
    assert limit is not None
    assert value <= limit * 1.0001
    assert value >= min(rule, edge / 8.5)
    assert not has_weights or value <= rule


def test_trained_weights_keep_their_low_rate() -> None:
    decision = guarded_rate(RULE, measured(edge=8.0, suggestion=2.0), has_weights=True)
    assert decision.value == RULE.value
    assert "stable" in decision.reason


def test_nothing_is_known_without_an_edge() -> None:
    assert stable_limit(measured(edge=None)) is None


@pytest.mark.parametrize(
    ("critical", "end", "share", "words"),
    [
        (0.04, 1.0, 0.2, "stands rates up to 0.04 (critical rate, measured); half of that"),
        (5.0, 1.0, 0.5, "50 times the peak; half of the peak at most"),
        (5.0, 0.3, 0.3, "half of the peak at most"),
        (1e-7, 1.0, 1e-4, "critical rate"),
    ],
)
def test_where_a_warmup_starts(critical: float, end: float, share: float, words: str) -> None:
    decision = first_share(critical, 0.1, end=end)
    assert decision.value == pytest.approx(share)
    assert words in decision.reason


@given(st.integers(0, 10_000), st.floats(0, 0.5))
def test_a_warmup_is_shortened_by_what_it_starts_with(steps: int, start: float) -> None:
    left = shortened_warmup(steps, start).value
    assert left.unit == "it"
    assert left.amount <= steps
    assert left.amount >= min(5, steps)
    assert left.amount >= round(steps * (1 - start))


@given(st.integers(0, 10**7))
def test_a_range_test_is_a_small_part_of_the_run(total: int) -> None:
    assert 40 <= range_steps(total) <= 100
    assert range_steps(total) <= max(40, 0.06 * total + 1)
