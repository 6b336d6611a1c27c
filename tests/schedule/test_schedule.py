"""The schedule of a run: lengths that become steps, the join of warmup and decay, and the plateau."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler as torch_lr

from halftone.base.errors import RecipeError
from halftone.schedule.build import build_schedule
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.schedule.plateau import Plateau
from halftone.schedule.schedule import Schedule

WARMUPS = ["linear", "exponential", "cosine", "constant"]
DECAYS = ["cosine", "linear", "polynomial", "step", "multistep", "exponential", "plateau", "constant"]
LENGTHS = st.one_of(
    st.just("none"),
    st.integers(1, 2000).map("{}it".format),
    st.integers(1, 40).map("{}ep".format),
    st.integers(1, 100).map("{}%".format),
)


def schedule(
    length: str = "none", rise: str = "linear", *, start: float = 0.01, epoch: int = 10, total: int = 100, **decay: Any
) -> Schedule:
    """Build a schedule; what is not named here is a setting of the decay."""
    warmup = WarmupConfig(length=length, shape=rise, start=start)
    return build_schedule(warmup, DecayConfig(**decay), steps_per_epoch=epoch, total_steps=total)


@pytest.mark.parametrize(
    ("length", "steps"),
    [("none", 0), ("0ep", 0), ("500it", 500), ("2ep", 400), ("0.5ep", 100), ("5%", 50), ("0.01%", 1), ("100%", 1000)],
)
def test_lengths_become_steps(length: str, steps: int) -> None:
    assert schedule(length, epoch=200, total=1000).warmup_steps == steps


def test_lengths_of_the_decays_become_steps() -> None:
    step = schedule("10it", shape="step", every="3ep", gamma=0.5)  # counted from the end of the warmup
    assert [step.share(at) for at in (10, 39, 40, 69, 70, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    several = schedule("10it", shape="multistep", milestones="3ep, 60it,90%", gamma=0.5)  # from the start of the run
    assert [several.share(at) for at in (10, 29, 30, 59, 60, 89, 90)] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_a_milestone_within_the_warmup_is_refused() -> None:
    with pytest.raises(RecipeError, match="warmup"):
        schedule("50it", shape="multistep", milestones="3ep,60it")
    on_the_join = schedule("30it", shape="multistep", milestones="3ep")
    assert on_the_join.share(30) == pytest.approx(0.1)


@pytest.mark.parametrize("every", ["none", "0it", 0])
def test_a_rate_that_would_fall_in_every_step_is_refused(every: str) -> None:
    with pytest.raises(RecipeError, match="above zero"):
        DecayConfig.parse({"shape": "step", "every": every})


def test_an_exponential_warmup_from_zero_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"warmup\.start"):
        WarmupConfig.parse({"shape": "exponential", "start": 0})


@pytest.mark.parametrize("warmup", [0, 1, 10, 99])
def test_linear_warmup_and_cosine_equal_torch_in_sequence(warmup: int) -> None:
    """The commonest schedule, step by step, against SequentialLR over LinearLR and CosineAnnealingLR."""
    ours = schedule(f"{warmup}it", "linear", end=0.05)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler: torch_lr.LRScheduler = torch_lr.CosineAnnealingLR(optimizer, 100 - warmup, 0.05)
    if warmup:
        rise = torch_lr.LinearLR(optimizer, 0.01, total_iters=warmup)
        scheduler = torch_lr.SequentialLR(optimizer, [rise, scheduler], [warmup])
    for step in range(100):
        assert ours.share(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
        optimizer.step()
        scheduler.step()


@given(
    warmup=st.sampled_from(WARMUPS),
    decay=st.sampled_from(DECAYS),
    length=LENGTHS,
    epoch=st.integers(1, 300),
    total=st.integers(1, 3000),
    start=st.floats(1e-4, 1),
    end=st.floats(0, 1),
)
def test_every_schedule_is_sound(
    warmup: str, decay: str, length: str, epoch: int, total: int, start: float, end: float
) -> None:
    """Within bounds everywhere, rising to the peak exactly at the join, falling after it."""
    built = schedule(length, warmup, start=start, epoch=epoch, total=total, shape=decay, end=end, milestones="100%")
    assert 0 <= built.warmup_steps <= total
    shares = [built.share(step) for step in range(total)]
    rise, fall = shares[: built.warmup_steps + 1], shares[built.warmup_steps :]
    assert all(0 <= share <= 1 + 1e-12 for share in shares)
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(rise))
    assert all(high * (1 + 1e-12) >= low for high, low in pairwise(fall))
    assert fall[:1] in ([], [1])
    if built.warmup_steps:
        assert shares[0] == pytest.approx(start)
        assert built.fixed_warmup(built.warmup_steps) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", DECAYS)
@pytest.mark.parametrize("warmup", ["none", "1it", "50%", "100it"])
def test_a_run_of_one_step(shape: str, warmup: str) -> None:
    built = schedule(warmup, shape=shape, epoch=1, total=1)
    assert built.share(0) in (pytest.approx(0.01), 1.0)
    assert math.isfinite(built.share(1))


@pytest.mark.parametrize("shape", WARMUPS)
def test_a_warmup_longer_than_the_run_is_the_whole_run(shape: str) -> None:
    built = schedule("50ep", shape)
    assert built.warmup_steps == 100
    assert built.share(0) == pytest.approx(0.01)
    assert built.share(99) < 1


@pytest.mark.parametrize(
    ("shape", "last"), [("cosine", 0.2), ("linear", 0.2), ("polynomial", 0.2), ("exponential", 0.2), ("constant", 1.0)]
)
def test_decays_arrive_at_their_end(shape: str, last: float) -> None:
    assert schedule(shape=shape, end=0.2).share(100) == pytest.approx(last)


def test_an_exponential_decay_to_zero_ends_at_a_hundredth() -> None:
    assert schedule(shape="exponential").share(100) == pytest.approx(0.01)


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_plateau_is_reduce_lr_on_plateau(patience: int, seed: int) -> None:
    torch.manual_seed(seed)
    losses = torch.randn(80).cumsum(0).tolist()
    losses[3] = losses[40] = math.nan
    losses[20] = losses[19]
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    theirs = torch_lr.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0.0, eps=0.0)
    ours = Plateau(0.5, patience)
    num_falls = 0
    for loss in losses:
        before = ours.factor
        fell = ours.observe(loss)
        theirs.step(loss)
        assert ours.factor == optimizer.param_groups[0]["lr"] == (before * 0.5 if fell else before)
        num_falls += fell
    assert num_falls > 2


def test_C15_plateau_bears_numbers_that_are_not() -> None:
    plateau = Plateau(0.1, 1)
    assert [plateau.observe(loss) for loss in (math.nan, 1.0, math.nan, math.inf, 0.5)] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert plateau.best == 0.5


@pytest.mark.parametrize("seen", [[], [math.nan], [1.0], [1.0, 2.0, 3.0, 0.5, 0.7]])
def test_plateau_makes_the_round_trip(seen: list[float]) -> None:
    first = schedule(shape="plateau", patience=0, gamma=0.5)
    second = schedule(shape="plateau", patience=0, gamma=0.5)
    assert first.plateau is not None
    for loss in seen:
        first.plateau.observe(loss)
    state = first.state_dict()
    assert all(value is None or math.isfinite(value) for value in state.values())  # fit for JSON
    second.load_state_dict(state)
    assert second.plateau == first.plateau
    assert second.share(7) == first.share(7)


def test_schedules_without_a_memory_have_no_state() -> None:
    built = schedule("10it")
    assert built.state_dict() == {}
    built.load_state_dict({})


def test_C9_the_rate_follows_the_steps_that_were_applied() -> None:
    """Skipped steps do not move the schedule: it is a function of the applied ones and of nothing else."""
    built = schedule("5it")
    applied, seen = 0, []
    for skipped in (False, True, True, False, False, True, False):
        seen.append(built.share(applied))
        applied += not skipped
    assert seen == [built.share(step) for step in (0, 1, 1, 1, 2, 3, 3)]


@pytest.mark.parametrize("shape", DECAYS)
def test_a_count_on_the_device_picks_the_same_share(shape: str) -> None:
    built = schedule("10it", shape=shape)
    for factor in (1.0, 0.3):
        if built.plateau is not None:
            built.plateau.factor = factor
        for step in (0, 1, 9, 10, 55, 99):
            share = built.share_at(torch.tensor(step))
            assert (share.shape, share.dtype, float(share)) == ((), torch.float64, built.share(step))
