"""Restarts, one-cycle and warmup-stable-decay, against torch's schedulers and their closed forms; momentum; lanes."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from halftone.base.errors import RecipeError
from halftone.schedule import curves
from halftone.schedule.build import build_schedule
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.schedule.lanes import Lane
from halftone.schedule.momentum import MomentumCurve


@pytest.mark.parametrize("cycle", [1, 2, 7, 40])
@pytest.mark.parametrize("growth", [1, 2, 3])
@pytest.mark.parametrize("end", [0.0, 0.1])
def test_restarts_are_cosine_annealing_warm_restarts(cycle: int, growth: int, end: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch_lr.CosineAnnealingWarmRestarts(optimizer, cycle, growth, eta_min=end)
    for step in range(130):
        assert curves.cosine_restarts(step, cycle, growth, end) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("total", "warmup"), [(100, 30), (50, 10), (400, 399), (10, 1)])
def test_one_cycle_is_one_cycle_lr_rate_and_momentum(total: int, warmup: int) -> None:
    """torch's last step has the last rate; ours would have it one step after the run, as all our decays."""
    rise = WarmupConfig(length=f"{warmup}it", shape="cosine", start=0.04, momentum=0.95)
    ours = build_schedule(
        rise, DecayConfig(shape="one-cycle", momentum=0.95), steps_per_epoch=10, total_steps=total, momentum=0.85
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = torch_lr.OneCycleLR(optimizer, 1.0, total_steps=total + 1, pct_start=(warmup + 1) / (total + 1))
    for step in range(total):
        group = optimizer.param_groups[0]
        assert ours.share(step) == pytest.approx(group["lr"], abs=1e-9), step
        if step >= warmup:  # torch's momentum falls along a cosine, ours in a straight line
            assert ours.momentum_at(step) == pytest.approx(group["momentum"], abs=1e-9), step
        optimizer.step()
        theirs.step()
    assert ours.momentum_at(0) == 0.95
    assert ours.momentum_at(warmup) == pytest.approx(0.85)


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - math.sqrt(0.5))])
def test_stable_decay_in_closed_form(shape: curves.CooldownShape, half: float) -> None:
    values = [curves.stable_decay(step, 100, 20, 0.0, shape) for step in range(101)]
    assert values[:81] == [1.0] * 81
    assert values[90] == pytest.approx(half)
    assert values[100] == pytest.approx(0, abs=1e-12)
    assert curves.stable_decay(90, 100, 20, 0.2, shape) == pytest.approx(0.2 + 0.8 * half)


def test_stable_decay_is_sequential_lr_of_constant_and_linear() -> None:
    ours = build_schedule(
        WarmupConfig(length="10it"),
        DecayConfig(shape="wsd", cooldown="20it", cooldown_shape="linear"),
        steps_per_epoch=10,
        total_steps=100,
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    parts = [
        torch_lr.LinearLR(optimizer, 0.01, total_iters=10),
        torch_lr.ConstantLR(optimizer, 1.0),
        torch_lr.LinearLR(optimizer, 1.0, 0.0, 20),
    ]
    theirs = torch_lr.SequentialLR(optimizer, parts, [10, 80])
    for step in range(100):
        assert ours.share(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
        optimizer.step()
        theirs.step()


@given(
    shape=st.sampled_from(["cosine-restarts", "one-cycle", "wsd"]),
    total=st.integers(1, 2000),
    warmup=st.integers(0, 100),
    end=st.floats(0, 1),
    cycle=st.integers(1, 100),
    growth=st.integers(1, 3),
)
def test_new_decays_are_sound(shape: str, total: int, warmup: int, end: float, cycle: int, growth: int) -> None:
    decay = DecayConfig.parse(
        {"shape": shape, "end": end, "cycle": f"{cycle}it", "cycle_growth": growth, "cooldown": f"{cycle}%"}
    )
    rise = WarmupConfig.parse({"length": f"{warmup}%" if warmup else "none"})
    built = build_schedule(rise, decay, steps_per_epoch=7, total_steps=total)
    shares = [built.share(step) for step in range(total)]
    assert all(0 <= share <= 1 + 1e-12 for share in shares)
    after = shares[built.warmup_steps :]
    assert after[:1] in ([], [1])
    if shape != "cosine-restarts":
        assert all(high * (1 + 1e-12) >= low for high, low in pairwise(after))


@given(batch=st.integers(1, 64), parts=st.integers(1, 8), epochs=st.integers(1, 20), length=st.integers(1, 100))
def test_a_warmup_means_updates_whatever_they_are_made_of(batch: int, parts: int, epochs: int, length: int) -> None:
    """Parts of a batch, or ranks that share one, do not change how many updates there are, so nor the curve."""
    images = 64 * batch
    built = [
        build_schedule(
            WarmupConfig.parse({"length": f"{length}%"}),
            DecayConfig(),
            steps_per_epoch=images // batch,
            total_steps=epochs * (images // batch),
        )
        for _ in range(parts)
    ]
    assert len({schedule.warmup_steps for schedule in built}) == 1
    assert built[0].warmup_steps == max(1, round(epochs * 64 * length / 100))


def test_a_warmup_that_ends_below_the_peak_jumps_there() -> None:
    built = build_schedule(
        WarmupConfig(length="10it", start=0.1, end=0.5), DecayConfig(), steps_per_epoch=10, total_steps=100
    )
    assert [round(built.share(step), 3) for step in (0, 5, 9, 10)] == [0.1, 0.3, 0.46, 1.0]
    with pytest.raises(RecipeError, match=r"start = 0\.6 is above end = 0\.5"):
        WarmupConfig.parse({"start": 0.6, "end": 0.5})


def test_momentum_moves_in_the_warmup_and_in_the_decay() -> None:
    curve = MomentumCurve(0.5, 0.9, 0.7)
    values = [curve.value(step, warmup_steps=10, total_steps=110) for step in (0, 5, 10, 60, 110)]
    assert values == pytest.approx([0.5, 0.7, 0.9, 0.8, 0.7])
    assert MomentumCurve(None, 0.9, None).moves is False
    assert MomentumCurve(None, 0.9, 0.5).value(3, warmup_steps=10, total_steps=20) == 0.9
    assert MomentumCurve(0.5, 0.9, None).value(15, warmup_steps=10, total_steps=20) == 0.9
    fixed = build_schedule(WarmupConfig(length="10it"), DecayConfig(), steps_per_epoch=10, total_steps=100)
    assert fixed.momentum_at(3) is None


def test_biases_start_where_they_are_told_and_join_the_rest() -> None:
    lanes = {"biases": Lane(bias=2.0)}
    built = build_schedule(WarmupConfig(length="10it"), DecayConfig(), steps_per_epoch=10, total_steps=100, lanes=lanes)
    assert [built.share(step, "biases") for step in (0, 5)] == pytest.approx([2.0, 1.5])
    assert all(built.share(step, "biases") == built.share(step) for step in range(10, 100))


def test_layers_that_thaw_warm_up_again() -> None:
    lanes = {"layer4": Lane(begins=40, warmup_steps=4)}
    built = build_schedule(WarmupConfig(length="10it"), DecayConfig(), steps_per_epoch=10, total_steps=100, lanes=lanes)
    assert [built.share(step, "layer4") for step in (0, 39)] == [0, 0]
    ratios = [built.share(step, "layer4") / built.share(step) for step in range(40, 47)]
    assert ratios == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    for step in (0, 40, 42, 99):
        assert float(built.share_at(torch.tensor(step), "layer4")) == built.share(step, "layer4")


def test_layers_that_halt_fall_to_zero_where_the_schedule_is_not_below() -> None:
    lanes = {"stem": Lane(ends=50)}
    built = build_schedule(
        WarmupConfig(length="10it", start=0.0), DecayConfig(shape="linear"), steps_per_epoch=10, total_steps=110,
        lanes=lanes,
    )  # fmt: skip
    shares = [built.share(step, "stem") for step in (0, 5, 10, 40, 50, 80)]
    assert shares == pytest.approx([0, 0.5, 0.8, 0.2, 0, 0])
    assert float(built.share_at(torch.tensor(30), "stem")) == built.share(30, "stem")
    without = build_schedule(
        WarmupConfig(length="0it"), DecayConfig(shape="linear"), steps_per_epoch=10, total_steps=110, lanes=lanes
    )
    assert [without.share(step, "stem") for step in range(51)] == pytest.approx([1 - step / 50 for step in range(51)])
