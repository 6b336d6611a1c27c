"""Many listeners on one stream, and what TensorBoard is given."""

from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from halftone.base.errors import ResourceError
from halftone.loop.events import EpochDone, StepTaken
from halftone.run.events import Event, Notice, Started
from halftone.run.folder import RunFolder
from halftone.track.fan import told
from halftone.track.tensorboard import TensorBoard


class Ear:
    def __init__(self, *, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.heard: list[Event] = []
        self.closed = 0
        self._fails_at, self._error = fails_at, error

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        if self._error is not None and len(self.heard) == self._fails_at:
            raise self._error

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ResourceError("disk full"), ValueError("odd")])
def test_D7_a_listener_that_fails_is_left_out_and_the_others_go_on(error: Exception) -> None:
    stream: list[Event] = [Notice("one"), Notice("two"), Notice("three")]
    bad, good = Ear(fails_at=2, error=error), Ear()
    passed = list(told(stream, [bad, good]))
    assert len(bad.heard) == 2
    texts = [event.text for event in good.heard if isinstance(event, Notice)]
    assert texts[:2] == ["one", "two"]
    assert "Ear failed and is left out" in texts[2]
    assert texts[3] == "three"
    assert passed == good.heard
    assert bad.closed == good.closed == 1


def test_what_a_listener_answers_is_told_to_all() -> None:
    class Answering(Ear):
        def hear(self, event: Event) -> Notice | None:
            super().hear(event)
            return Notice("here it is") if event == Notice("where?") else None

    ear = Ear()
    passed = list(told([Notice("where?"), Notice("last")], [Answering(), ear]))
    assert passed == ear.heard == [Notice("where?"), Notice("here it is"), Notice("last")]


def test_a_fault_of_the_stream_closes_the_listeners() -> None:
    def broken() -> object:
        yield Notice("one")
        raise KeyError("stream")

    ear = Ear()
    with pytest.raises(KeyError):
        list(told(broken(), [ear]))  # type: ignore[arg-type]
    assert ear.closed == 1


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_gets_the_numbers_of_the_tables(events: list[Event], tmp_path: Path) -> None:
    board = TensorBoard()
    for event in events:
        board.hear(replace(event, folder=RunFolder(tmp_path)) if isinstance(event, Started) else event)
    board.close()
    found = scalars(tmp_path)
    done = [event for event in events if isinstance(event, EpochDone)]
    steps = [event for event in events if isinstance(event, StepTaken)]
    assert [value for _, value in found["epoch/val_accuracy"]] == pytest.approx(
        [event.evaluation.metrics.accuracy for event in done]
    )
    assert [step for step, _ in found["epoch/val_accuracy"]] == [6, 12]
    assert found["steps/loss"] == [(1, pytest.approx(float(steps[0].loss)))]
    assert found["steps/lr"] == [(1, pytest.approx(steps[0].lr))]
    assert "steps/loss_scale" not in found
