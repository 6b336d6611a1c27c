"""Gradients that are zero are noticed, once; a step without gradients that are finite leaves the average as it was."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_sessions import session_of
from torch import Tensor

from halftone.loop.events import GradientsVanished, StepTaken
from halftone.loop.state import Progress
from halftone.loop.train import train
from halftone.loop.vanishing import VANISHED, Vanishing
from halftone.track.wording import sentence


@pytest.mark.parametrize("waits", [True, False], ids=["host", "device"])
@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"mode": "fp16", "scaling": "off"}, "--precision.scaling dynamic"),
        ({"mode": "fp16", "scaling": "static"}, "at a loss scale of 1024"),
        ({"mode": "fp32"}, None),
    ],
    ids=["off", "small", "fp32"],
)
def test_C7_gradients_that_underflow_are_noticed(waits: bool, settings: dict[str, Any], remedy: str | None) -> None:
    """At a loss of 1e-12 of its size: zero in fp16, and not in fp32."""
    session = session_of(waits=waits, l1=0.0, l2=0.0, epochs=6, **settings)
    criterion = session.criterion

    def tiny(outputs: Any, targets: Tensor) -> Tensor:
        return criterion(outputs, targets) * 1e-12

    session = replace(session, criterion=tiny)  # type: ignore[arg-type]
    events = list(train(session, Progress.start(session.device), max_skipped=10))
    found = [event for event in events if isinstance(event, GradientsVanished)]
    if remedy is None:
        assert found == []
        return
    (event,) = found
    assert event.num_steps == VANISHED == 41
    assert event.tried == 60
    said = sentence(event)
    assert said is not None
    assert remedy in said


def test_C7_a_gradient_now_and_then_is_enough() -> None:
    vanishing, zero, one = Vanishing(), torch.zeros(()), torch.ones(())
    looks = [vanishing.look(tried, one if tried == 40 else zero) for tried in range(1, 121)]
    assert [tried for tried, said in enumerate(looks, 1) if said] == [100]


@pytest.mark.parametrize("waits", [True, False], ids=["host", "device"])
def test_C13_a_skipped_step_leaves_the_average_as_it_was(waits: bool) -> None:
    """Weights and buffers, to the bit, and the count that its first rates follow."""
    session = session_of(waits=waits, poison=lambda tried: tried in (0, 5, 6), average=0.9)
    average, before, same = session.average, {}, []
    assert average is not None
    for event in train(session, Progress.start(session.device), max_skipped=10):
        if isinstance(event, StepTaken):
            now = {name: value.clone() for name, value in average.module.state_dict().items()}
            now["updates"] = torch.tensor(average.num_updates)
            same.append(bool(before) and all(torch.equal(now[name], before[name]) for name in now))
            before = now
    assert [number for number, unchanged in enumerate(same) if unchanged] == [5, 6]
    assert average.num_updates == len(same) - 3
    assert all(bool(value.isfinite().all()) for value in before.values())
