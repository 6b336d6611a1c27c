"""What the terminal shows: the plan with reasons, a line per epoch, a bar where there is a terminal."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from halftone.data.survey import Fault
from halftone.loop.events import EpochDone, RateLowered, StepTaken, StoppedEarly, Unreadable
from halftone.run.events import Event, Notice, Planned
from halftone.track.console import Terminal, clock


def shown(events: list[Event], *, terminal: bool = False, width: int = 100) -> str:
    out = io.StringIO()
    listener = Terminal(Console(file=out, force_terminal=terminal, width=width, no_color=True))
    for event in events:
        listener.hear(event)
    listener.close()
    return out.getvalue()


def test_the_plan_comes_first_and_an_epoch_takes_a_line(events: list[Event]) -> None:
    lines = shown(events).splitlines()
    assert "96 training and 24 validation images of 3 classes" in lines[0]
    reasons = [line for line in lines if line.startswith("augment")]
    assert reasons and "mirrored" in " ".join(lines)
    epochs = [line.split() for line in lines if line.strip().startswith(("1/2", "2/2"))]
    done = [event for event in events if isinstance(event, EpochDone)]
    assert [words[0] for words in epochs] == ["1/2", "2/2"]
    for words, event in zip(epochs, done, strict=True):
        accuracy = event.evaluation.metrics.accuracy
        assert accuracy is not None
        assert words[3] == f"{100 * accuracy:.2f}"
    assert "everything is in" in lines[-1]


def test_a_pipe_gets_no_bar_and_a_terminal_does(events: list[Event]) -> None:
    assert "\x1b" not in shown(events)
    assert "images/s" in shown(events, terminal=True)
    assert "epoch 1/2" in shown(events, terminal=True)


def test_rare_events_become_sentences(events: list[Event]) -> None:
    planned = next(event for event in events if isinstance(event, Planned))
    text = shown(
        [
            planned,
            Notice("left out\x1b[31m"),
            RateLowered(3, 0.01),
            StoppedEarly(4, "no better accuracy"),
            *(Unreadable("train", Fault(n, f"{n}.png", "cut")) for n in range(5)),
            Unreadable("train", Fault(0, "0.png", "cut")),
        ],
        width=200,
    )
    assert "note: left out\\x1b[31m" in text  # a name from disk cannot steer the terminal
    assert "lowered to 0.01 of its peak" in text
    assert "stopped early: no better accuracy" in text
    assert text.count("left out, cannot be read") == 3


def test_skipped_steps_and_the_loss_scale_are_said(events: list[Event]) -> None:
    planned = next(event for event in events if isinstance(event, Planned))
    done = next(event for event in events if isinstance(event, EpochDone))
    step = next(event for event in events if isinstance(event, StepTaken))
    assert "7 steps skipped so far" in shown([planned, replace(done, skipped_steps=7)], width=200)
    scaled = replace(step, loss_scale=torch.tensor(1024.0))
    assert "scale 1024" in shown([planned, scaled], terminal=True, width=200)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1:00"), (187, "3:07"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_run_that_waited_for_images_says_so_at_its_end(events: list[Event]) -> None:
    def ended(waited: float) -> str:
        return shown(
            [
                replace(event, train_seconds=10.0, data_wait_seconds=waited) if isinstance(event, EpochDone) else event
                for event in events
            ],
            width=200,
        )

    assert "waiting for data" not in ended(0.9)
    assert "note: 25% of the training time was waiting for data; `halftone diagnose speed " in ended(2.5)
