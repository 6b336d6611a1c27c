"""Reading a range test: from losses, noisy as they are, to where they fall, where they rise, and a rate."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftone.schedule.range_curve import RangeReading, read_range

RATES = np.geomspace(1e-4, 10, 100)


def curve(*, falls_at: float = 0.01, rises_at: float = 1.0, fall: float = 0.5) -> npt.NDArray[np.float64]:
    """Losses that fall around one rate and rise around another, [points]."""
    position = np.log(RATES)
    down = fall / (1 + np.exp(-2 * (position - np.log(falls_at))))
    up = np.exp(2 * (position - np.log(rises_at)))
    return np.exp(0.8 - down + np.minimum(up, 3))


def read(losses: npt.NDArray[np.float64]) -> RangeReading:
    return read_range(RATES.tolist(), losses.tolist())


def near(found: float | None, wanted: float, factor: float = 2.5) -> bool:
    return found is not None and wanted / factor <= found <= wanted * factor


def test_a_clean_curve() -> None:
    found = read(curve())
    assert near(found.steepest, 0.01, 1.5)
    assert near(found.edge, 0.25, 1.5)  # a tenth of the fall is lost where exp(2 ln(r)) = 0.05
    assert found.steepest < found.suggestion < found.edge


@settings(max_examples=60)
@given(st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_the_scale_of_the_loss_does_not_matter(scale: float, seed: int) -> None:
    losses = curve() * np.exp(np.random.default_rng(seed).normal(0, 0.03, len(RATES)))
    one, other = read(losses), read(losses * scale)
    assert (one.steepest, one.edge, one.suggestion) == (other.steepest, other.edge, other.suggestion)
    np.testing.assert_allclose(one.smoothed * scale, other.smoothed, rtol=1e-6)


@settings(max_examples=60)
@given(st.floats(1e-6, 1e6))
def test_the_unit_of_the_rate_does_not_matter(unit: float) -> None:
    one, other = read(curve()), read_range((RATES * unit).tolist(), curve().tolist())
    assert other.suggestion == pytest.approx(one.suggestion * unit)
    assert other.edge == pytest.approx(one.edge * unit)


@settings(max_examples=100, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.05))
def test_noise_moves_the_suggestion_little(seed: int, deviation: float) -> None:
    """Up to a tenth of the fall: of 1,500 draws of 0.05 the farthest moved them by factors of 1.6 and 2.3."""
    noise = np.random.default_rng(seed).normal(0, deviation, len(RATES))
    found = read(curve() * np.exp(noise))
    assert near(found.suggestion, read(curve()).suggestion or 0, 2)
    assert near(found.edge, read(curve()).edge or 0)


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    st.floats(2, 1e9),
    st.booleans(),
)
def test_early_spikes_are_no_edge(places: list[int], height: float, are_infinite: bool) -> None:
    losses = curve()
    losses[places] = np.inf if are_infinite else losses[places] * height
    found = read(losses)
    assert near(found.suggestion, read(curve()).suggestion or 0, 1.5)


@settings(max_examples=60, derandomize=True)  # one curve of noise in a thousand does fall
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.1))
def test_a_loss_that_never_falls_suggests_nothing(seed: int, deviation: float) -> None:
    noise = np.exp(np.random.default_rng(seed).normal(0, deviation, len(RATES)))
    flat, rising = 2.3 * noise, curve(fall=0) * noise
    for losses in (flat, rising):
        found = read(losses)
        assert (found.steepest, found.edge, found.suggestion) == (None, None, None)


def test_a_loss_that_never_rises_is_low_up_to_the_largest_rate() -> None:
    found = read(curve(rises_at=1e9))
    assert found.edge is None
    low = 0.01 * 9**0.5  # nine tenths of the fall are done where exp(-2 ln(r / 0.01)) = 1 / 9
    assert near(found.suggestion, (low * RATES[-1]) ** 0.5, 1.2)
    assert near(found.steepest, 0.01, 1.5)


def test_what_is_not_finite_at_the_end_is_the_end() -> None:
    losses = curve(rises_at=1e9)
    losses[80:] = np.nan
    found = read(losses)
    assert found.edge is not None
    assert RATES[76] <= found.edge <= RATES[84]


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="3 points are too few"):
        read_range([1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="11 rates and 10 losses"):
        read_range(list(range(1, 12)), [1.0] * 10)
    with pytest.raises(ValueError, match="above zero and grow"):
        read_range([1.0] * 12, [1.0] * 12)
