"""What the lint of a schedule finds, and what it leaves alone."""

from typing import Any

import pytest

from halftone.schedule.build import build_schedule
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.schedule.lint import lint

EPOCH, TOTAL = 40, 400


def found(
    warmup: dict[str, Any], decay: dict[str, Any] | None = None, *, peak: float = 0.1, stable: float | None = None
) -> tuple[str, ...]:
    rise = WarmupConfig.parse({"shape": "linear", "start": 0.01, **warmup})
    fall = DecayConfig.parse(decay or {})
    schedule = build_schedule(rise, fall, steps_per_epoch=EPOCH, total_steps=TOTAL)
    return lint(schedule, rise, fall, steps_per_epoch=EPOCH, peak=peak, stable=stable)


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential", "adaptive"])
@pytest.mark.parametrize("length", ["none", "1it", "5%", "20%"])
@pytest.mark.parametrize(
    "decay",
    [
        {"shape": "cosine"},
        {"shape": "cosine", "end": 0.1},
        {"shape": "linear"},
        {"shape": "polynomial"},
        {"shape": "exponential"},
        {"shape": "step"},
        {"shape": "multistep"},
        {"shape": "wsd"},
        {"shape": "constant"},
        {"shape": "plateau"},
        {"shape": "one-cycle"},
    ],
    ids=lambda decay: " ".join(map(str, decay.values())),
)
def test_what_is_usual_is_left_alone(shape: str, length: str, decay: dict[str, Any]) -> None:
    assert found({"shape": shape, "length": length}, decay) == ()


def test_a_jump_at_the_join_has_its_factor() -> None:
    (constant,) = found({"shape": "constant", "length": "1ep", "start": 0.1})
    assert "jumps by a factor of 10 when the warmup is over, at step 40: a constant warmup does not rise" in constant
    (short,) = found({"length": "1ep", "end": 0.25})
    assert "jumps by a factor of 4 " in short
    assert "warmup.end is 0.25" in short
    assert found({"shape": "constant", "length": "1ep", "start": 0.9}) == ()


def test_a_first_epoch_at_a_useless_rate() -> None:
    (sentence,) = found({"shape": "exponential", "length": "4ep", "start": 1e-6})
    assert "the rate of the first epoch is" in sentence
    assert "than 160 steps" in sentence
    (sentence, _) = found({"shape": "constant", "length": "1ep", "start": 0.001})[::-1]
    assert "0.1% of the peak" in sentence
    assert found({"length": "4ep", "start": 0.0}) == ()


def test_a_warmup_of_most_of_the_run() -> None:
    (sentence,) = found({"length": "75%"})
    assert "300 of 400 steps, 75% of the run, which leaves 2.5 epochs" in sentence
    assert found({"length": "50%"}) == ()


@pytest.mark.parametrize(
    ("decay", "words"),
    [
        ({"shape": "step", "every": "20ep"}, "decay.every lies behind the end of the run, step 400"),
        ({"shape": "multistep", "milestones": "11ep,12ep"}, "decay.milestones lies behind the end"),
        ({"shape": "cosine-restarts", "cycle": "200it"}, "ends within a cycle, at 10% of the peak instead of 0%"),
        ({"shape": "wsd", "cooldown": "1it"}, "never reaches its minimum of 0% of the peak: it ends at 100%"),
    ],
)
def test_a_rate_that_never_reaches_its_minimum(decay: dict[str, Any], words: str) -> None:
    (sentence,) = found({"length": "1ep"}, decay)
    assert words in sentence


def test_restarts_that_fill_the_run() -> None:
    assert found({"length": "1ep"}, {"shape": "cosine-restarts", "cycle": "90it"}) == ()


def test_a_peak_above_what_was_measured_stable() -> None:
    (sentence,) = found({"length": "1ep"}, peak=0.5, stable=0.2)
    assert "peak rate of 0.5" in sentence
    assert "ends at 0.2" in sentence
    assert found({"length": "1ep"}, peak=0.5, stable=0.6) == ()


def test_a_run_of_a_step_or_none_has_nothing_to_say() -> None:
    for total in (0, 1):
        schedule = build_schedule(WarmupConfig(length="none"), DecayConfig(), steps_per_epoch=40, total_steps=total)
        assert lint(schedule, WarmupConfig(shape="linear"), DecayConfig(), steps_per_epoch=40, peak=0.1) == ()
