"""`halftone diagnose warmup`: signals on made columns, the verdict from signals, and a real, tiny run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from halftone.cli.main import main
from halftone.diagnose.warmup import as_length, diagnose_warmup, judge_warmup
from halftone.diagnose.warmup_evidence import Finding, Signal
from halftone.diagnose.warmup_signals import (
    Floats,
    Steps,
    at_full_rate,
    at_peak,
    fall_below,
    norm_change,
    rising_together,
    slow_start,
    spikes,
    steps_to_learn,
)
from halftone.run.folder import RunFolder
from halftone.track.tables import STEPS
from halftone.verbs import train
from samples import wish, write_npz


def falling(num_steps: int = 200, noise: float = 0.02, seed: int = 0) -> Floats:
    """A loss from 2.3 to 0.5, with noise."""
    random = np.random.default_rng(seed)
    smooth = 0.5 + 1.8 * np.exp(-np.arange(num_steps) / 40)
    return smooth * np.exp(random.normal(0, noise, num_steps))


def ramp(warmup: int, num_steps: int = 200) -> Floats:
    """A linear warmup to 0.1, then constant."""
    return 0.1 * np.minimum((np.arange(num_steps) + 1) / max(warmup, 1), 1)


@given(st.integers(0, 1000), st.floats(0.005, 0.08), st.floats(0.01, 100))
def test_noise_is_no_spike_at_any_scale(seed: int, noise: float, scale: float) -> None:
    assert spikes(scale * falling(noise=noise, seed=seed)) == []


@given(st.integers(15, 150), st.integers(1, 20), st.floats(1.8, 50))
def test_a_jump_is_found_with_its_place_length_and_height(start: int, length: int, height: float) -> None:
    loss = falling(noise=0.01)
    loss[start : start + length] = loss[start - 1] * height
    (found,) = spikes(loss)
    assert found.start == start
    assert found.end is not None
    assert length - 1 <= found.lost(200) <= length
    assert found.height == pytest.approx(height, rel=0.25)


def test_a_loss_that_never_comes_back_or_is_not_finite() -> None:
    loss = falling()
    loss[50:] = np.inf
    (found,) = spikes(loss)
    assert found.start == 50
    assert found.end is None
    assert found.lost(200) == 150
    assert np.isfinite(found.height)
    assert np.isfinite(found.z)


def test_learning_starts_where_the_loss_stays_below_its_start() -> None:
    loss = falling(noise=0.0)
    assert steps_to_learn(loss) == 1
    loss[:60] = 2.3
    loss[20:30] = 1.5  # not for good
    assert steps_to_learn(loss) == pytest.approx(58, abs=2)
    assert steps_to_learn(np.full(100, 2.3)) is None


def test_columns_are_read_with_what_is_absent() -> None:
    steps = Steps.of({"loss": [2.0, None, 1.0], "lr": [0.1, 0.2, 0.2], "skipped": [0.0, 1.0, 0.0]})
    assert steps.loss.tolist() == [2.0, np.inf, 1.0]
    assert np.isnan(steps.update_ratio).all()
    assert steps.skipped.tolist() == [False, True, False]
    assert steps.peak_step == 1
    assert steps.peak_rate == 0.2
    assert at_peak(steps.update_ratio, 1) is None
    assert norm_change(steps.grad_norm, 1) is None


def test_ratios_at_the_peak() -> None:
    ratio = np.full(200, np.nan)
    ratio[::10] = np.linspace(0.001, 0.02, 20)
    assert at_peak(ratio, 100) == pytest.approx((ratio[100] + ratio[110]) / 2)
    norm = np.r_[np.full(20, 2.0), np.full(180, 0.5)]
    assert norm_change(norm, 20) == 0.25
    assert norm_change(norm, 0) == 1.0  # most of the steps that count are still among the first


def test_updates_of_the_warmup_are_taken_to_the_peak_rate() -> None:
    rate, ratio = ramp(40), np.full(200, np.nan)
    ratio[::10] = 0.2 * rate[::10]  # 2 % at the peak
    ratio[0] = 1e-6  # momentum has not gathered
    steps = Steps.of({"loss": list(falling()), "lr": list(rate), "update_ratio": list(ratio)})
    assert at_full_rate(steps, 40) == pytest.approx(0.02)
    assert at_full_rate(steps, 0) is None
    assert at_full_rate(steps, 5) is None


def test_the_part_below_half_the_peak() -> None:
    spent, learned = fall_below(falling(noise=0.0), ramp(120), 0.5)
    assert spent == pytest.approx(0.3, abs=0.01)
    assert learned > 0.7
    assert fall_below(falling(), ramp(0), 0.5) == (0.0, 0.0)


def test_a_slow_start_is_measured_against_the_fastest_fall() -> None:
    loss = np.r_[np.linspace(2.3, 2.28, 60), np.linspace(2.28, 0.5, 60), np.full(80, 0.5)]
    slow, faster = slow_start(loss, 100)
    assert slow == 60
    assert faster > 20
    assert slow_start(falling(noise=0.0), 100)[0] == 0


def test_epochs_in_which_accuracy_rises_and_the_loss_too() -> None:
    assert rising_together([1.0, 1.2, 1.3, 0.9], [0.1, 0.3, 0.2, 0.5], 4) == 1
    assert rising_together([1.0, 1.2], [0.1, 0.3], 1) == 0
    assert rising_together([1.0, None], [0.1, 0.3], 2) == 0


def signals(**findings: Finding) -> list[Signal]:
    return [Signal(name=name, value=None, finding=finding, sentence="") for name, finding in findings.items()]


@pytest.mark.parametrize(
    ("found", "share", "verdict"),
    [
        ({"spike": "unstable", "norm": "unstable"}, 0.0, "missing"),
        ({"spike": "unstable", "norm": "unstable"}, 0.02, "too short"),
        ({"spike": "unstable", "norm": "unstable"}, 0.2, "rate too high"),
        ({"spike": "unstable", "norm": "calm"}, 0.2, "right"),
        ({"spike": "unstable", "norm": "unstable"}, 0.12, "too short"),
        ({"divergence": "unstable"}, 0.02, "too short"),
        ({"divergence": "unstable"}, 0.1, "rate too high"),
        ({"spike": "calm"}, 0.0, "right"),
        ({"ratio": "gentle", "low": "slow"}, 0.2, "unneeded"),
        ({"ratio": "calm", "low": "slow"}, 0.6, "too long"),
        ({"ratio": "calm"}, 0.05, "right"),
    ],
)
def test_the_verdict_follows_from_the_signals(found: dict[str, Finding], share: float, verdict: str) -> None:
    assert judge_warmup(signals(**found), share) == verdict


def test_a_run_that_learned_nothing_for_long_is_ruined() -> None:
    spike = signals(spike="unstable")
    for stuck, verdict in ((0.1, "too short"), (0.6, "rate too high")):
        stagnation = Signal(name="stagnation", value=stuck, finding="unstable", sentence="")
        assert judge_warmup([*spike, stagnation], 0.1) == verdict


def test_lengths_are_written_as_they_are_asked_for() -> None:
    assert as_length(46, 23) == "2ep"
    assert as_length(9, 23) == "9it"
    assert as_length(0.2, 23) == "1it"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warmup")
    recipe = wish(write_npz(root / "tiny.npz"), root, epochs=4, optimizer="adamw", lr=1e-5, warmup="1ep")
    return train(recipe).path


def rewritten(run: Path, to: Path, loss: Floats, rate: Floats, norm: Floats, ratio: Floats) -> RunFolder:
    """The folder of a run with another log."""
    to.mkdir()
    for name in ("plan.yaml", "results.csv", "classification_report.json"):
        (to / name).write_bytes((run / name).read_bytes())
    with (to / "steps.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, STEPS, restval="")
        writer.writeheader()
        for step, values in enumerate(zip(loss, rate, norm, ratio, strict=True), 1):
            columns = dict(zip(("loss", "lr", "grad_norm", "update_ratio"), map(repr, map(float, values)), strict=True))
            writer.writerow(
                {"tried": step, "step": step, "epoch": 1, "batch": step, "skipped": 0, "seconds": 0} | columns
            )
    return RunFolder(to)


def test_a_log_that_blows_up_at_the_peak_was_warmed_too_short(run: Path, tmp_path: Path) -> None:
    loss = falling()
    loss[6:40] = 9.0
    ones = np.ones(200)
    found = diagnose_warmup(rewritten(run, tmp_path / "a", loss, ramp(6), ones, 0.12 * ones)).diagnosis
    assert found.verdict == "too short"
    assert found.advice == "Train with --warmup 7ep."  # of six steps each: a fifth of the run, as updates are violent
    assert {signal.name for signal in found.evidence if signal.finding == "unstable"} >= {"loss spikes", "update ratio"}


def test_a_calm_log_with_a_warmup_of_most_of_the_run_was_warmed_too_long(run: Path, tmp_path: Path) -> None:
    ones = np.ones(200)
    found = diagnose_warmup(rewritten(run, tmp_path / "b", falling(), ramp(120), ones, 0.01 * ones)).diagnosis
    assert found.verdict == "too long"
    calm = diagnose_warmup(rewritten(run, tmp_path / "c", falling(), ramp(20), ones, 0.01 * ones)).diagnosis
    assert calm.verdict == "right"
    assert calm.advice == "Keep --warmup 1ep."


@pytest.mark.parametrize(("share", "verdict"), [(0.008, "unneeded"), (0.012, "right"), (0.08, "right")])
def test_a_warmup_that_held_back_only_harmless_updates_was_not_needed(
    run: Path, tmp_path: Path, share: float, verdict: str
) -> None:
    ones = np.ones(200)
    ratio = share * ramp(20) / 0.1
    found = diagnose_warmup(rewritten(run, tmp_path / "e", falling(), ramp(20), ones, ratio)).diagnosis
    assert found.verdict == verdict
    held_back = next(signal for signal in found.evidence if signal.name == "held back")
    assert held_back.value == pytest.approx(share)
    assert f"{share:.2%} of their norm" in held_back.sentence


def test_a_loss_that_ends_above_its_start_diverged(run: Path, tmp_path: Path) -> None:
    ones, loss = np.ones(200), falling()
    loss[30:] = np.nan
    found = diagnose_warmup(rewritten(run, tmp_path / "d", loss, ramp(40), ones, 0.01 * ones)).diagnosis
    assert found.verdict == "rate too high"
    assert found.advice == "Train with --lr 0.033."
    assert found.evidence[-1].name == "divergence"


def test_a_real_run_at_a_tiny_rate_needed_no_warmup(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "warmup", str(run), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "unneeded"
    assert found["advice"] == "Train with --warmup none."
    assert found["num_steps"] == 24
    with Image.open(tmp_path / "out/warmup_diagnosis.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert 0.002 < (pixels < 200).mean() < 0.5
    assert main(["diagnose", "warmup", str(run), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "verdict: unneeded." in out
    assert "picture: " in err


def test_what_cannot_be_judged_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "warmup", str(tmp_path)]) == 4
    assert "not a run folder" in capsys.readouterr().err
    few = np.ones(5)
    short = rewritten(run, tmp_path / "short", few, few, few, few)
    assert main(["diagnose", "warmup", str(short.path)]) == 4
    assert "has 5 steps in steps.csv" in capsys.readouterr().err
