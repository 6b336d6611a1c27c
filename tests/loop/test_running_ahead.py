"""A host that runs ahead of the device: the same run, of which it hears a little later."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from small_sessions import bits, session_of
from torch import Tensor

from halftone.base.errors import Diverged
from halftone.loop.events import EpochDone, StepTaken
from halftone.loop.state import Progress, capture, restore
from halftone.loop.train import train
from halftone.run.events import Started
from halftone.run.training import resuming, training
from reading import nothing_is_read
from samples import numbers, wish, write_npz

BAD = (0, 4, 5, 6, 11, 12, 20)
"""Of 24 steps in two epochs: the first, the last of an epoch and the first of the next among them."""
MUCH: dict[str, Any] = {"optimizer": "adamw", "decay": {"shape": "plateau", "patience": 0}}


def bad(tried: int) -> bool:
    return tried in BAD


def plain(event: StepTaken | EpochDone) -> dict[str, Any]:
    """The numbers of an event, read from wherever they are, but for the clock."""
    clock = {"seconds", "images_per_second", "peak_memory_mb", "train_seconds", "data_wait_seconds", "evaluation"}
    values = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in clock}
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in values.items()}


@pytest.mark.parametrize("settings", [{}, MUCH, {"optimizer": "muon", "accumulate": 2}, {"mode": "fp16"}])
def test_the_events_are_the_same(settings: dict[str, Any]) -> None:
    seen, ends = [], []
    for waits in (True, False):
        session = session_of(waits=waits, poison=bad, **settings)
        progress = Progress.start(session.device)
        events = [e for e in train(session, progress, max_skipped=32) if isinstance(e, StepTaken | EpochDone)]
        seen.append([plain(event) for event in events])
        ends.append((bits(session, progress), progress.skipped))
        assert isinstance(events[0], StepTaken)
        assert isinstance(events[0].applied, Tensor) != waits
    assert repr(seen[0]) == repr(seen[1])  # the loss of a bad step is not a number, which equals nothing
    assert ends[0] == ends[1]
    assert ends[0][1] == len(BAD)


def test_whenever_an_event_comes_out_the_state_can_be_saved() -> None:
    """A checkpoint is the same as that of a host that knew all along, its rates plain numbers.

    The first step is a good one: were it skipped where the device decides, the optimizer would have a state of zeros.
    """
    states = []
    for waits in (True, False):
        session = session_of(waits=waits, poison=lambda tried: tried > 0 and bad(tried))
        progress = Progress.start(session.device)
        states.append([bits(session, progress) for _ in train(session, progress, max_skipped=32)])
    assert states[0] == states[1]


@pytest.mark.parametrize("stop", [1, 5, 7, 12, 13])
def test_going_on_from_a_saved_state(stop: int) -> None:
    whole = session_of(waits=False, poison=bad)
    progress = Progress.start(whole.device)
    list(train(whole, progress, max_skipped=32))
    first = session_of(waits=False, poison=bad)
    begun = Progress.start(first.device)
    for event in train(first, begun, max_skipped=32):
        if isinstance(event, StepTaken) and event.tried == stop:
            break
    second = session_of(waits=False, poison=lambda tried: bad(tried + stop))
    later = Progress.start(second.device)
    restore(second, later, capture(first, begun))
    list(train(second, later, max_skipped=32))
    assert bits(second, later) == bits(whole, progress)


def test_nothing_is_read_between_epochs() -> None:
    """But for what the device did long ago, of which nothing is that old in so short an epoch."""
    session = session_of(waits=False, mode="fp16", poison=bad, augment={"policy": "strong"})
    progress = Progress.start(session.device)
    events = train(session, progress, max_skipped=100)
    next(events)  # the table of rates is made in the first step
    with nothing_is_read():
        for _ in range(11):
            assert isinstance(next(events), StepTaken)
    assert (progress.step, len(progress.under_way)) == (0, 12)
    capture(session, progress)
    assert (progress.step, progress.skipped, progress.under_way) == (7, 5, type(progress.under_way)())


def diverge(*, waits: bool, max_skipped: int, poison: Any, **settings: Any) -> tuple[int, str]:
    """Return the step at which training stopped, and what it said."""
    session = session_of(waits=waits, poison=poison, **settings)
    progress = Progress.start(session.device)
    with pytest.raises(Diverged) as caught:
        list(train(session, progress, max_skipped=max_skipped))
    return progress.tried, str(caught.value)


@pytest.mark.parametrize("max_skipped", [1, 2, 3, 6])
@pytest.mark.parametrize("first", [0, 2])
def test_divergence_is_noticed_half_the_limit_later_at_most(max_skipped: int, first: int) -> None:
    """Even if a good step came meanwhile; and it is told as if it had been noticed at once."""
    for good in (1000, first + max_skipped):
        results = [
            diverge(waits=waits, max_skipped=max_skipped, poison=lambda tried, good=good: first <= tried != good)
            for waits in (True, False)
        ]
        (stopped, message), (later, same) = results
        assert stopped == first + max_skipped
        assert stopped <= later <= stopped + max_skipped // 2
        told = (
            f"training diverged: {max_skipped} steps in a row, up to step {stopped}, had gradients that are not finite"
        )
        assert message.startswith(told)
        assert same.startswith(told)


def test_divergence_at_the_end_of_an_epoch_is_noticed_there() -> None:
    tried, message = diverge(waits=False, max_skipped=10, poison=lambda tried: tried >= 2)
    assert tried == 12
    assert "10 steps in a row, up to step 12," in message


def test_divergence_that_a_checkpoint_learned_of_first() -> None:
    session = session_of(waits=False, poison=lambda tried: 1 <= tried < 5)
    progress = Progress.start(session.device)
    with pytest.raises(Diverged, match="4 steps in a row, up to step 5,"):
        for event in train(session, progress, max_skipped=4):
            if isinstance(event, StepTaken) and event.tried == 6:
                capture(session, progress)
    assert progress.tried == 6


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the device decide, as on a GPU."""
    monkeypatch.setattr("halftone.precision.verbs.waits_by_default", lambda device: False)
    yield


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_whole_run_writes_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    """RMSprop takes no flag: the host decides, wherever it runs."""
    path = write_npz(tmp_path / "tiny.npz")
    tables = []
    for waits in (True, False):
        monkeypatch.setattr("halftone.precision.verbs.waits_by_default", lambda device, waits=waits: waits)
        folder = run(training(wish(path, tmp_path, optimizer=optimizer, average=0.9)))
        tables.append([numbers(folder, name) for name in ("steps.csv", "results.csv")])
    assert tables[0] == tables[1]


@pytest.mark.usefixtures("ahead")
def test_a_whole_run_goes_on_where_it_was_left(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    wishes = wish(path, tmp_path, optimizer="adamw", run={"checkpoint_every": "2it"})
    straight = run(training(wishes))
    folder = run(training(wishes), stop=5)
    assert run(resuming(folder)) == folder
    assert numbers(straight, "steps.csv") == numbers(folder, "steps.csv")
    assert numbers(straight, "results.csv") == numbers(folder, "results.csv")


def run(events: Iterator[Any], *, stop: int = 1000) -> Path:
    """Follow a run with its tables to its end, or up to a step; return its folder."""
    from halftone.track.tables import Tables

    tables, folder = Tables(), None
    for event in events:
        tables.hear(event)
        if isinstance(event, Started):
            folder = event.folder.path
        if isinstance(event, StepTaken) and event.tried == stop:
            break
    tables.close()
    assert folder is not None
    return folder
