"""Every part of a saved state is needed: with one of them as it was at the start, a resumed run ends otherwise.

The parts are read off the state itself, so one that is added later is tried, too.
"""

import copy
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_sessions import session_of
from torch import Tensor, nn

from halftone.base.errors import Diverged
from halftone.loop.components import components, digest, first_difference
from halftone.loop.events import EpochDone, LoopEvent, StepTaken
from halftone.loop.session import Session
from halftone.loop.state import Progress, capture, clock_fields, restore
from halftone.loop.train import train
from halftone.schedule.adaptive import AdaptiveWarmup

BATCHES = 4
"""In an epoch."""
POISONED = 10
POINTS = {
    "first step": lambda event: isinstance(event, StepTaken) and event.tried == 1,
    "after a new best": lambda event: isinstance(event, StepTaken) and event.tried == BATCHES + 1,
    "mid-epoch": lambda event: isinstance(event, StepTaken) and event.tried == BATCHES + 2,
    "epoch boundary": lambda event: isinstance(event, EpochDone) and event.epoch == 2,
    "after a scale change": lambda event: isinstance(event, StepTaken) and event.tried == POISONED + 1,
    "after a lower rate": lambda event: isinstance(event, EpochDone) and event.epoch == 3,
    "early stop": lambda event: isinstance(event, EpochDone) and event.epoch == 4,
}
DERIVED = {
    "the clock": "the end is compared without it",
    "parameters": "names, which are only compared",
    "optimizer: param_groups": "rates are set before each step, and the rest is settled",
    "average: num_batches_tracked": "copied from the network in each step",
    "schedule.adaptive.limit": "settled",
    "schedule.adaptive.longest": "settled",
    "schedule.adaptive.start": "settled",
    "schedule.adaptive.since": "never later than held_until, which counts then",
}
"""Parts that a run goes on as well without, and why."""
ELSEWHERE = {
    "progress.skipped_in_row": "matters to the step in which a run gives up",
    "progress.divided": "of a run that ran out of memory, see test_run_out_of_memory",
    "progress.evaluated_at_once": "of a run that ran out of memory, see test_run_out_of_memory",
    **{f"schedule.adaptive.{name}": "some matter in one step only" for name in AdaptiveWarmup.__dataclass_fields__},
}
"""Parts with a test of their own below."""


class _Remembering(nn.Module):
    """Draws from all random streams, and keeps something in every kind of buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Flatten())
        self.head = nn.Linear(144, 3)
        self.register_buffer("shift", torch.zeros(()), persistent=False)
        self.register_buffer("calls", torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.calls[0] += 1
            self.shift.mul_(0.9).add_(0.01 * random.random() + 0.01 * float(np.random.random()))
            return self.head(self.layers(images)) + self.shift
        return self.head(self.layers(images)) + self.calls  # worse from epoch to epoch, so that the first is the best


def begun(poisoned: Collection[int] = (POISONED,)) -> tuple[Session, Progress]:
    where: list[Progress] = []
    session = session_of(
        waits=True,
        mode="fp16",
        poison=lambda _: where[0].tried in poisoned,  # a resumed session counts from where it goes on
        model=_Remembering,
        optimizer="adamw",
        lr=0.02,
        epochs=5,
        batch_size=96 // BATCHES,
        warmup={"length": "8it", "shape": "adaptive", "start": 0.05},
        decay={"shape": "plateau", "patience": 1},
        patience=3,
    )
    where.append(Progress.start(session.device))
    return session, where[0]


@dataclass(frozen=True)
class End:
    """What a run, or the rest of one, came to."""

    state: str
    epochs: dict[int, str]
    steps: dict[int, str]

    def fits(self, whole: "End") -> bool:
        parts = self.epochs.items() <= whole.epochs.items() and self.steps.items() <= whole.steps.items()
        return parts and self.state == whole.state


def finish(session: Session, progress: Progress, note: Callable[[LoopEvent], None] = lambda event: None) -> End:
    epochs, steps = {}, {}
    for event in train(session, progress, max_skipped=9):
        note(event)
        if isinstance(event, EpochDone):
            epochs[event.epoch] = repr((event.train_loss, event.train_accuracy, event.evaluation.metrics.loss))
        elif isinstance(event, StepTaken):
            steps[event.tried] = repr((float(event.loss), event.lr, event.loss_scale, event.applied))
    return End(digest(components(capture(session, progress))), epochs, steps)


@cache
def straight() -> tuple[dict[str, Any], dict[str, dict[str, Any]], End]:
    """The state at the start and at each point, and the end."""
    session, progress = begun()
    first, states = copy.deepcopy(capture(session, progress)), {}

    def note(event: LoopEvent) -> None:
        states.update({point: copy.deepcopy(capture(session, progress)) for point in POINTS if POINTS[point](event)})

    end = finish(session, progress, note)
    return first, states, end


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def part_of(path: tuple[Any, ...]) -> str:
    """Name the part that a leaf of the state belongs to."""
    match path:
        case ("progress", name) if name in clock_fields():
            return "the clock"
        case ("model", name) | ("average", "module", name):
            return f"{path[0]}: {name.rpartition('.')[2]}"
        case ("optimizer", "state", _, moment):
            return f"optimizer: {moment}"
        case ("optimizer" | "random" as room, name, *_):
            return f"{room}: {name}"
        case _:
            return ".".join(path)


def parts() -> list[str]:
    _, states, _ = straight()
    return sorted({part_of(path) for state in states.values() for path in leaves(state)})


def value_at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def without(state: dict[str, Any], first: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a state in which one part is as it was at the start, or empty if there was none."""
    changed = copy.deepcopy(state)
    for path in leaves(state):
        if part_of(path) != part:
            continue
        *way, last = path
        place = value_at(changed, tuple(way))
        try:
            place[last] = copy.deepcopy(value_at(first, path))
        except KeyError:
            if isinstance(place[last], Tensor):
                place[last] = torch.zeros_like(place[last])
            else:
                del place[last]
    return changed


def moved(state: dict[str, Any], changed: dict[str, Any]) -> bool:
    return first_difference(components(state), components(changed)) is not None


def resumed(state: dict[str, Any]) -> End:
    session, progress = begun()
    restore(session, progress, state)
    return finish(session, progress)


def test_the_points_are_what_they_are_called() -> None:
    first, states, _ = straight()
    assert list(states) == list(POINTS)
    changed = states["after a scale change"]
    assert changed["progress"]["skipped_in_row"] == 1
    assert changed["precision"]["scaling"]["scale"] not in (0.0, first["precision"]["scaling"]["scale"])
    assert states["after a new best"]["best"] == {**states["mid-epoch"]["best"], "epoch": 1, "waited": 0}
    assert states["epoch boundary"]["progress"]["batch"] == 0 < states["mid-epoch"]["progress"]["batch"]
    assert states["after a lower rate"]["schedule"]["factor"] < 1
    assert states["early stop"]["progress"]["stopped"]


@pytest.mark.parametrize("point", POINTS)
def test_with_all_of_it_the_end_is_the_same(point: str) -> None:
    _, states, end = straight()
    before = digest(components(states[point]))
    for _ in range(2):  # a state that was gone on from is still what it was
        assert resumed(states[point]).fits(end)
    assert digest(components(states[point])) == before


@pytest.mark.parametrize("part", [part for part in parts() if part not in ELSEWHERE])
def test_D24_a_part_that_is_dropped_is_missed_wherever_it_has_changed(part: str) -> None:
    first, states, end = straight()
    dropped = {point: without(state, first, part) for point, state in states.items()}
    changed = [point for point in states if moved(states[point], dropped[point])]
    missed = [point for point in changed if not resumed(dropped[point]).fits(end)]
    if part in DERIVED:
        assert set(missed) <= {"early stop"}  # after which no step is taken
    else:
        assert missed == changed != []


def test_D24_skipped_steps_in_a_row_are_counted_across_a_resumption() -> None:
    poisoned = range(5, 14)
    session, progress = begun(poisoned)
    first, states = copy.deepcopy(capture(session, progress)), []
    with pytest.raises(Diverged, match="9 steps in a row, up to step 14"):
        finish(session, progress, lambda event: states.append(copy.deepcopy(capture(session, progress))))
    for state in (states[-3], without(states[-3], first, "progress.skipped_in_row")):
        session, progress = begun(poisoned)
        restore(session, progress, state)
        diverges = bool(state["progress"]["skipped_in_row"])
        with pytest.raises(Diverged) if diverges else nullcontext():
            finish(session, progress)


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if name not in DERIVED and "adaptive" in name])
def test_D24_every_number_of_an_adaptive_warmup_is_missed_somewhere(name: str) -> None:
    """Some numbers matter in one step only, so that every step of every sort of losses is tried until one shows it."""
    field = name.rpartition(".")[2]
    assert any(_decides_otherwise(field, sort, step) for sort in _LOSSES for step in range(1, 60))


_LOSSES: dict[str, Callable[[int], tuple[float, bool, float]]] = {
    "calm": lambda step: (2 * 0.98**step, True, 0.0005),
    "spiky": lambda step: ({1: 6.0, 34: 5.0, 35: 5.0}.get(step, 2.0), True, 0.03),
    "worse at last": lambda step: (2 * 0.98**step * (1 if step < 26 else 4), True, 0.03),
    "worse at once": lambda step: (2.0 if step % 9 == 1 else 2.9, True, 0.03),
    "rising": lambda step: (2 * 1.03**step, True, 0.03),
    "moving far": lambda step: (2 * 0.98**step, True, 0.09),
    "skipped": lambda step: (2 * 0.98**step, step % 13 > 4, 0.03),
}
"""By the step: the loss, whether the update was applied, and how far it moved the weights."""


def _decides_otherwise(field: str, sort: str, step: int) -> bool:
    """Tell whether a warmup decides otherwise if a number is forgotten after a step."""
    ends = []
    for forgets in (False, True):
        warmup, decided = AdaptiveWarmup(20, 0.05), []
        for number in range(1, 70):
            loss, applied, ratio = _LOSSES[sort](number)
            decision = warmup.observe(number, loss, applied=applied, update_ratio=ratio)
            decided.append((decision, warmup.share(number), warmup.peak))  # what the schedule reads
            if number == step and forgets:
                fresh = AdaptiveWarmup(20, 0.05).state_dict()
                warmup.load_state_dict({**warmup.state_dict(), field: fresh[field]})
        ends.append(decided)
    return ends[0] != ends[1]
