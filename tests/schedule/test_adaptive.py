"""The adaptive warmup: a straight line as long as nothing happens, and a decision with a reason when something does."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from halftone.schedule.adaptive import AdaptiveWarmup, WarmupDecision
from halftone.schedule.build import build_schedule
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.schedule.schedule import Schedule


def schedule(limit: int = 100, total: int = 1000, *, start: float = 0.01) -> Schedule:
    warmup = WarmupConfig(length=f"{limit}it", shape="adaptive", start=start)
    return build_schedule(warmup, DecayConfig(), steps_per_epoch=50, total_steps=total)


def live(built: Schedule, losses: Iterable[float], *, ratio: float | None = None) -> list[tuple[int, WarmupDecision]]:
    """Let a schedule see losses, each of an applied step unless it is NaN; return its decisions by step."""
    step, said = 0, []
    for loss in losses:
        applied = math.isfinite(loss)
        step += applied
        decision = built.observe(step, loss, applied=applied, update_ratio=ratio)
        if decision is not None:
            said.append((step, decision))
    return said


def falling(count: int) -> list[float]:
    return [2.3 * 0.995**step for step in range(count)]


def test_undisturbed_it_is_the_linear_warmup_of_that_length() -> None:
    built, linear = (
        schedule(),
        build_schedule(WarmupConfig(length="100it"), DecayConfig(), steps_per_epoch=50, total_steps=1000),
    )
    planned = [built.share(step) for step in range(1000)]
    assert planned == pytest.approx([linear.share(step) for step in range(1000)])
    said = live(built, falling(300))
    assert [(step, decision.action) for step, decision in said] == [(100, "finished")]
    assert [built.share(step) for step in range(100, 1000)] == pytest.approx(planned[100:])


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([*falling(50), 9.0], "times its running mean"),
        ([*falling(50), 4.0, 4.0], "times its running mean"),
        ([*falling(4), 3.3, 3.3], "times that of the first step"),
        ([*falling(2), 30.0], "times that of the first step"),
        ([*falling(50), *(2.0 + 0.03 * step for step in range(40))], "has risen by"),
        ([*falling(50), *[math.nan] * 4], "4 steps in a row had gradients that are not finite"),
    ],
)
def test_it_backs_off_when_training_is_unstable(losses: list[float], reason: str) -> None:
    built = schedule()
    said = live(built, losses)
    assert said[-1][1].action == "backed off"
    assert reason in said[-1][1].reason
    assert {decision.action for _, decision in said[:-1]} <= {"held"}
    step, decision = said[-1]
    if len(said) == 1:
        assert decision.share == pytest.approx((0.01 + 0.0099 * step) / 2)
    assert built.share(step) == built.share(step + 10) == decision.share  # it waits for a tenth of the limit
    assert built.share(step + 11) > decision.share


def test_a_single_noisy_batch_is_no_instability() -> None:
    assert [decision.action for _, decision in live(schedule(), [*falling(50), 3.2, *falling(100)[51:]])] == [
        "finished"
    ]


@given(st.lists(st.floats(-0.25, 0.25), min_size=150, max_size=150))
def test_noise_does_not_stop_it(noise: list[float]) -> None:
    losses = [loss * math.exp(extra) for loss, extra in zip(falling(420), [*noise, *[0.0] * 270], strict=True)]
    actions = [decision.action for _, decision in live(schedule(), losses)]
    assert len(actions) <= 3
    assert actions[-1] == "finished"


def test_it_holds_while_updates_are_large_and_says_so_once() -> None:
    built = schedule()
    said = live(built, falling(30), ratio=0.3)
    assert [decision.action for _, decision in said] == ["held"]
    assert "30% of their norm" in said[0][1].reason
    assert built.share(30) == pytest.approx(said[0][1].share, rel=0.9)


def test_it_waits_while_the_loss_is_risen_and_goes_on_more_slowly_when_it_has_come_back() -> None:
    built = schedule(limit=50)
    risen = [*falling(30), *[2.35] * 20, *falling(200)[40:]]
    said = live(built, risen)
    assert [decision.action for _, decision in said] == ["held", "finished"]
    (held, decision), (finished, _) = said
    assert "the mean loss has risen" in decision.reason
    assert 32 <= held <= 48
    assert finished - held > 2 * (1 - decision.share) * 50  # half the slope, and a wait


def test_it_hurries_where_there_is_nothing_to_warm() -> None:
    built = schedule()
    said = live(built, falling(100), ratio=1e-5)
    actions = [decision.action for _, decision in said]
    assert actions[0] == "hurried"
    assert actions[-1] == "finished"
    assert said[-1][0] < 60


def test_a_start_at_the_peak_is_no_warmup() -> None:
    built = schedule(start=1.0)
    assert built.share(0) == 1
    assert built.warmup_steps == 0
    assert [(step, decision.action) for step, decision in live(built, falling(3))] == [(1, "finished")]


def test_what_never_gets_stable_ends_at_what_is() -> None:
    """At most four times the limit; the decay then starts from there."""
    losses = [2.0 if step % 30 else 40.0 for step in range(1, 600)]
    built = schedule()
    said = live(built, losses)
    finished = [step for step, decision in said if decision.action == "lowered"]
    assert finished
    assert finished[0] <= 400
    assert built.share(built.warmup_steps) == built.adaptive.peak < 0.7  # type: ignore[union-attr]


def test_trouble_at_the_peak_lowers_it_for_good() -> None:
    built = schedule()
    said = live(built, [*falling(120), 20.0, *falling(50)])
    assert [(step, decision.action) for step, decision in said] == [(100, "finished"), (121, "lowered")]
    assert built.warmup_steps == 100
    assert built.share(500) == pytest.approx(schedule().share(500) / 2)
    assert not built.needs_host(201)
    assert built.observe(201, 50.0, applied=True, update_ratio=None) is None  # it no longer looks


STORIES = st.lists(
    st.tuples(st.floats(0.001, 100), st.booleans(), st.none() | st.floats(0, 0.5)), min_size=1, max_size=250
)


@given(STORIES, st.integers(0, 250), st.integers(1, 60), st.floats(0.001, 1))
def test_whatever_happens_it_stays_within_bounds_and_resumes_exactly(
    story: list[tuple[float, bool, float | None]], cut: int, limit: int, start: float
) -> None:
    straight, resumed = schedule(limit, start=start), schedule(limit, start=start)

    def tell(built: Schedule, events: list[tuple[float, bool, float | None]], step: int) -> tuple[int, list[Any]]:
        said = []
        for loss, applied, ratio in events:
            step += applied
            said.append((built.observe(step, loss, applied=applied, update_ratio=ratio), built.share(step)))
        return step, said

    before, first = tell(resumed, story[:cut], 0)
    state = resumed.state_dict()
    again = schedule(limit, start=start)
    again.load_state_dict(state)
    _, second = tell(again, story[cut:], before)
    assert first + second == tell(straight, story, 0)[1]
    assert again.state_dict() == straight.state_dict()
    shares = [straight.share(step) for step in range(1000)]
    assert all(0 <= share <= 1 for share in shares)
    assert straight.warmup_steps <= 4 * limit
    table = [float(straight.share_at(torch.tensor(step))) for step in (0, 5, 99, 500, 999)]
    assert table == [straight.share(step) for step in (0, 5, 99, 500, 999)]


@given(STORIES)
def test_between_decisions_the_rate_does_not_fall_before_the_peak(
    story: list[tuple[float, bool, float | None]],
) -> None:
    warmup, step = AdaptiveWarmup(50, 0.01), 0
    seen: list[tuple[float, bool]] = []
    for loss, applied, ratio in story:
        step += applied
        decided = warmup.observe(step, loss, applied=applied, update_ratio=ratio)
        if warmup.finished is not None:
            break
        seen.append((warmup.share(step), decided is not None))
    assert all(low <= high + 1e-12 or cut for (low, _), (high, cut) in pairwise(seen))
