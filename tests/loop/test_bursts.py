"""Bursts of bad batches end as if nobody had ever seen these batches."""

from typing import Any

import pytest
import torch
from small_sessions import BATCH, bits, session_of

from halftone.data.feed import Batch
from halftone.loop.events import StepTaken
from halftone.loop.session import Session
from halftone.loop.state import Progress
from halftone.loop.step import update
from halftone.loop.train import train
from halftone.precision.config import Mode

BEFORE, AFTER = 3, 4
"""Good batches before and after a burst."""


def follow(session: Session, batches: list[Batch]) -> Any:
    """Train on batches and return all bits of the state, the rates of the last step, and how many were skipped."""
    progress = Progress.start(session.device)
    session.enter_training()
    step: Any = 0 if session.precision.waits else torch.zeros((), dtype=torch.int64)
    for batch in batches:
        result = update(session, batch, step=step, tried=progress.tried)
        step = step + result.applied
        progress.tried += 1
        progress.count(result.applied, result.loss, result.num_correct, len(batch.labels))
    rates = [float(group["lr"]) for group in session.optimizer.param_groups]
    state = bits(session, progress, leave_out=("tried", "skipped"))
    return state, rates, progress.skipped


@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16", "bf16-true", "fp16-true"])
@pytest.mark.parametrize("waits", [True, False])
def test_a_burst_leaves_no_trace(mode: Mode, waits: bool) -> None:
    """Not in weights, optimizer, average, statistics of batch normalisation, the epoch's sums or the next rate.

    The loss scale is static. A dynamic one shrinks with the burst, as it should, and float16 then rounds the gradients
    after it otherwise than those of a run that never had to shrink it.
    """
    settings: dict[str, Any] = {"waits": waits, "mode": mode, "scaling": "static" if "fp16" in mode else "off"}
    controls = {name: session_of(**settings, optimizer=name) for name in ("sgd", "adamw", "muon")}
    some = controls["sgd"]
    batches = list(some.feed.batches(some.order(0), BATCH))[: BEFORE + AFTER]
    expected = {name: follow(control, batches) for name, control in controls.items()}
    for length in range(1, 21):
        name = tuple(controls)[length % 3]
        end = BEFORE + length
        session = session_of(**settings, optimizer=name, poison=lambda tried, end=end: BEFORE <= tried < end)
        bad = [batches[number % len(batches)] for number in range(length)]
        found = follow(session, [*batches[:BEFORE], *bad, *batches[BEFORE:]])
        assert found == (*expected[name][:2], length), (name, length)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("mode", ["fp16", "fp16-true"])
def test_a_dynamic_scale_shrinks_by_the_burst(mode: Mode, waits: bool) -> None:
    session = session_of(waits=waits, mode=mode, poison=lambda tried: 2 <= tried < 5)
    batches = list(session.feed.batches(session.order(0), BATCH))[:6]
    follow(session, batches)
    assert float(session.precision.scale) == 1024 / 2**3  # type: ignore[arg-type]


@pytest.mark.parametrize("waits", [True, False])
def test_C9_rates_follow_the_applied_steps_of_a_whole_epoch(waits: bool) -> None:
    """The rate of each step is that of a run that never saw the bad batches, after as many applied steps."""
    bad = {1, 2, 5, 9}

    def rates(poison: set[int]) -> list[tuple[float, bool]]:
        session = session_of(waits=waits, poison=poison.__contains__, epochs=1)
        steps = [event for event in train(session, Progress.start(session.device), max_skipped=20)
                 if isinstance(event, StepTaken)]  # fmt: skip
        return [(float(event.lr), bool(event.applied)) for event in steps]

    straight = [rate for rate, _ in rates(set())]
    found = rates(bad)
    assert {tried for tried, (_, applied) in enumerate(found) if not applied} == bad
    before = [sum(applied for _, applied in found[:tried]) for tried in range(len(found))]
    assert [rate for rate, _ in found] == [straight[applied] for applied in before]
    assert len(set(straight[:6])) == 6  # a warmup, in which each step has a rate of its own
