"""The curves, against torch's schedulers and their closed forms, and what holds for all of them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from halftone.schedule import curves

LENGTHS = st.integers(1, 10_000)
SHARES = st.floats(0, 1)
ABOVE_ZERO = st.floats(1e-6, 1)
WARMUPS = [curves.linear_warmup, curves.exponential_warmup, curves.cosine_warmup, curves.constant_warmup]
DECAYS: dict[str, Callable[[int, int, float], float]] = {
    "cosine": curves.cosine_decay,
    "linear": lambda step, length, end: curves.polynomial_decay(step, length, end, 1),
    "square": lambda step, length, end: curves.polynomial_decay(step, length, end, 2),
    "root": lambda step, length, end: curves.polynomial_decay(step, length, end, 0.5),
    "exponential": lambda step, length, end: curves.exponential_decay(step, length, max(end, 1e-6)),
    "step": curves.step_decay,
    "multistep": lambda step, length, end: curves.multistep_decay(step, [length, length // 2 + 1], end),
}


def rates(make: Callable[[torch.optim.Optimizer], torch_lr.LRScheduler], count: int, peak: float = 1.0) -> list[float]:
    """Return what a scheduler of torch gives at each of `count` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = make(optimizer)
    seen = []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("length", [1, 2, 7, 40])
@pytest.mark.parametrize("start", [0.01, 0.3, 1.0])
def test_linear_warmup_is_linear_lr(length: int, start: float) -> None:
    theirs = rates(lambda optimizer: torch_lr.LinearLR(optimizer, start, total_iters=length), length + 1)
    assert [curves.linear_warmup(step, length, start) for step in range(length + 1)] == pytest.approx(theirs)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_constant_warmup_is_constant_lr(length: int) -> None:
    theirs = rates(lambda optimizer: torch_lr.ConstantLR(optimizer, 0.25, total_iters=length), length + 5)
    assert [curves.constant_warmup(step, length, 0.25) for step in range(length + 5)] == pytest.approx(theirs)


@pytest.mark.parametrize("length", [1, 2, 7, 100])
@pytest.mark.parametrize("end", [0.0, 0.1])
def test_cosine_is_cosine_annealing_lr(length: int, end: float) -> None:
    theirs = rates(lambda optimizer: torch_lr.CosineAnnealingLR(optimizer, T_max=length, eta_min=end), length + 1)
    assert [curves.cosine_decay(step, length, end) for step in range(length + 1)] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("length", [1, 2, 7, 100])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_polynomial_is_polynomial_lr(length: int, power: float) -> None:
    theirs = rates(lambda optimizer: torch_lr.PolynomialLR(optimizer, length, power), length + 4)
    ours = [curves.polynomial_decay(step, length, 0.0, power) for step in range(length + 4)]
    # torch multiplies step by step, which loses up to the square root of the precision where the rate nears zero
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_linear_decay_is_linear_lr(length: int) -> None:
    theirs = rates(lambda optimizer: torch_lr.LinearLR(optimizer, 1.0, 0.2, length), length + 4)
    assert [curves.polynomial_decay(step, length, 0.2, 1) for step in range(length + 4)] == pytest.approx(theirs)


@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize("end", [1e-4, 0.01, 0.5])
def test_exponential_is_exponential_lr(length: int, end: float) -> None:
    theirs = rates(lambda optimizer: torch_lr.ExponentialLR(optimizer, end ** (1 / length)), length + 1)
    assert [curves.exponential_decay(step, length, end) for step in range(length + 1)] == pytest.approx(theirs)


@pytest.mark.parametrize("every", [1, 3, 30])
def test_step_is_step_lr(every: int) -> None:
    theirs = rates(lambda optimizer: torch_lr.StepLR(optimizer, every, 0.3), 95)
    assert [curves.step_decay(step, every, 0.3) for step in range(95)] == pytest.approx(theirs)


@pytest.mark.parametrize("milestones", [[], [5], [5, 20, 21], [20, 5], [7, 7], [200]])
def test_multistep_is_multistep_lr(milestones: list[int]) -> None:
    theirs = rates(lambda optimizer: torch_lr.MultiStepLR(optimizer, sorted(milestones), 0.3), 40)
    assert [curves.multistep_decay(step, milestones, 0.3) for step in range(40)] == pytest.approx(theirs)


def test_closed_forms_at_the_quarters() -> None:
    assert curves.linear_warmup(25, 100, 0.2) == pytest.approx(0.4)
    assert curves.exponential_warmup(50, 100, 0.01) == pytest.approx(0.1)
    assert curves.cosine_warmup(50, 100, 0.2) == pytest.approx(0.6)
    assert curves.cosine_warmup(25, 100, 0.0) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert curves.cosine_decay(25, 100, 0.0) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert curves.exponential_decay(50, 100, 0.01) == pytest.approx(0.1)
    assert curves.polynomial_decay(50, 100, 0.2, 2) == pytest.approx(0.4)


@pytest.mark.parametrize("warmup", WARMUPS)
@given(length=LENGTHS, start=ABOVE_ZERO, place=SHARES)
def test_warmups_rise_within_bounds_to_the_peak(
    warmup: Callable[[int, int, float], float], length: int, start: float, place: float
) -> None:
    step = int(place * (length - 1))
    here, following = warmup(step, length, start), warmup(step + 1, length, start)
    assert start * (1 - 1e-12) <= here <= following * (1 + 1e-12)
    assert following <= 1 + 1e-12
    assert warmup(0, length, start) == pytest.approx(start)
    assert warmup(length, length, start) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", DECAYS)
@given(length=LENGTHS, end=SHARES, place=st.floats(0, 2))
def test_decays_fall_within_bounds_from_the_peak(name: str, length: int, end: float, place: float) -> None:
    decay, step = DECAYS[name], int(place * length)
    here, following = decay(step, length, end), decay(step + 1, length, end)
    assert decay(0, length, end) == 1
    assert 0 <= following <= here * (1 + 1e-12) <= 1 + 1e-12
    if "step" not in name:
        assert following >= end * (1 - 1e-12)
        assert decay(length, length, end) == pytest.approx(max(end, 1e-6) if name == "exponential" else end)
        assert decay(5 * length, length, end) == decay(length, length, end)
