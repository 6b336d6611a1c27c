"""Lengths: 5ep, 500it, 5%."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from halftone.base.lengths import Length, Span, parse_span

ADAPTER = TypeAdapter(Length)
EPOCHS = st.decimals(min_value=0, max_value=10**9, places=3).map(lambda amount: Span(float(amount), "ep"))
STEPS = st.integers(0, 10**12 - 1).map(lambda amount: Span(float(amount), "it"))
SHARES = st.decimals(min_value=0, max_value=100, places=4).map(lambda amount: Span(float(amount), "%"))


@given(st.one_of(EPOCHS, STEPS, SHARES))
def test_what_is_written_reads_back(span: Span) -> None:
    again = ADAPTER.validate_python(ADAPTER.dump_python(span))
    assert again == (span or Span(0, "it"))
    assert parse_span(span) is span
    if span:
        assert parse_span(str(span)) == span
        assert parse_span(f"  {span} ".upper()) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("5ep", Span(5, "ep")),
        ("0.5ep", Span(0.5, "ep")),
        ("1500000it", Span(1_500_000, "it")),
        ("5%", Span(5, "%")),
        ("100%", Span(100, "%")),
        (" 5 EP ", Span(5, "ep")),
        ("none", Span(0, "it")),
        ("off", Span(0, "it")),
        ("0.0ep", Span(0, "it")),
        (0, Span(0, "it")),
        (False, Span(0, "it")),
        (None, Span(0, "it")),
    ],
)
def test_what_people_write_is_read(text: Any, span: Span) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text", ["5", 5, 5.0, True, "ep", "-5ep", "5 epochs", "1e3it", "", "nan%", "9" * 400 + "ep", [5]]
)
def test_B2_what_is_no_length_is_refused_with_what_is_allowed(text: Any) -> None:
    with pytest.raises(ValidationError, match=r"5ep \(epochs\), 500it \(optimizer steps\) or 5% \(of the run\)"):
        ADAPTER.validate_python(text)


def test_B3_lengths_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 100%"):
        parse_span("101%")
    with pytest.raises(ValueError, match="whole number"):
        parse_span("1.5it")


@given(st.one_of(EPOCHS, STEPS, SHARES), st.integers(1, 10_000), st.integers(1, 10**6))
def test_steps_are_near_the_length_and_never_none_for_a_positive_one(span: Span, per_epoch: int, total: int) -> None:
    steps = span.steps(steps_per_epoch=per_epoch, total_steps=total)
    exact = span.amount * {"ep": per_epoch, "it": 1, "%": total / 100}[span.unit]
    if span:
        assert steps >= 1
        assert steps == 1 or abs(steps - exact) <= 0.5 + 1e-9 * exact
    else:
        assert steps == 0


def test_steps_of_the_documented_examples() -> None:
    assert Span(5, "ep").steps(steps_per_epoch=100, total_steps=1000) == 500
    assert Span(500, "it").steps(steps_per_epoch=100, total_steps=1000) == 500
    assert Span(5, "%").steps(steps_per_epoch=100, total_steps=1000) == 50
    assert Span(0.1, "%").steps(steps_per_epoch=10, total_steps=10) == 1
    assert str(Span(0.5, "ep")) == "0.5ep"
    assert not Span(0, "it")
