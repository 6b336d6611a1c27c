"""Real processes, really killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from halftone.weights.files import load_sealed
from samples import numbers, write_folder

FLAGS = ["--model", "cifar_resnet8", "--batch-size", "8", "--data.feed", "streaming", "--threads", "1",
         "--run.checkpoint-every", "3it", "--no-run.report", "--no-run.tensorboard", "--average", "0.9",
         "--augment.resized-crop", "0.5,1", "--augment.rotate", "10", "--precision.probe-seconds", "0"]  # fmt: skip


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "halftone", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the run has saved a state at or after a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        saved = [int(path.stem.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-*.safetensors")]
        if saved and max(saved) >= step:
            return
        time.sleep(0.005)


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]], list[dict[str, str]]]:
    weights = load_sealed(folder / "last.safetensors").tensors
    return weights, numbers(folder, "results.csv"), numbers(folder, "steps.csv")


def same(first: Path, second: Path) -> bool:
    (weights, results, steps), (others, other_results, other_steps) = outcome(first), outcome(second)
    equal = all(torch.equal(weights[name], others[name]) for name in weights)
    return equal and results == other_results and steps == other_steps


def kill_and_resume(tmp_path: Path, precision: str, workers: int, *, kills: int, seed: int) -> None:
    """Train straight, then again with kills at random moments; both must end the same to the last bit."""
    root = write_folder(tmp_path / "set", train=160, size=24)
    flags = [*FLAGS, "--epochs", "3", "--precision", precision, "--workers", str(workers)]
    flags += ["--run.root", str(tmp_path / "runs")]
    straight = start(["train", str(root), *flags, "--name", "straight"])
    folder = tmp_path / "runs" / "killed"
    chance = random.Random(seed)
    # within the second epoch, which has 20 steps
    moments = sorted(chance.sample(range(22, 39), kills))
    process = start(["train", str(root), *flags, "--name", "killed"])
    for moment in moments:
        wait_for_step(folder, moment, process)
        time.sleep(chance.uniform(0, 0.05))
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        process = start(["train", "--resume", str(folder)])
    assert process.wait(120) == 0, process.communicate()
    assert straight.wait(120) == 0, straight.communicate()
    for finished in (process, straight):
        finished.communicate()
    assert same(folder, tmp_path / "runs" / "straight")


def test_D1_killed_three_times_in_an_epoch_ends_the_same(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, "bf16", 2, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_D1_killed_in_every_mode(tmp_path: Path, precision: str, workers: int, seed: int) -> None:
    kill_and_resume(tmp_path, precision, workers, kills=3, seed=seed)


def test_D3_D4_signals_save_and_say_how_to_go_on(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=160, size=24)
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--epochs", "500", "--warmup", "1ep"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        process = start(["train", str(root), *flags, "--name", f"run{code}"])
        folder = tmp_path / "runs" / f"run{code}"
        wait_for_step(folder, 6, process)
        asked = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert time.monotonic() - asked < 10
        assert out == ""
        assert f"hint: go on with: halftone train --resume {folder}" in err
        assert "Traceback" not in err


def test_D5_a_hang_up_saves_and_nohup_goes_on(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=160, size=24)
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--warmup", "1ep"]
    process = start(["train", str(root), *flags, "--epochs", "500", "--name", "hung-up"])
    wait_for_step(tmp_path / "runs/hung-up", 6, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it, as from nohup
    try:
        process = start(["train", str(root), *flags, "--epochs", "3", "--name", "ignored"])
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_step(tmp_path / "runs/ignored", 6, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def test_D5_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=160, size=24)
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--epochs", "4", "--name", "left"]
    process = start(["train", str(root), *flags])
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()  # before the first line: every one of them is written to nobody
    assert process.wait(120) == 0
    assert len(outcome(tmp_path / "runs/left")[1]) == 4
