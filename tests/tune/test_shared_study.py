"""Real processes that share a study, one of them really killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from halftone.base.tables import read_table
from samples import write_npz

FLAGS = ["--model", "cifar_resnet8", "--batch-size", "16", "--epochs", "3", "--precision", "fp32", "--threads", "1",
         "--optimizer.probe-seconds", "0", "--run.checkpoint-every", "2it", "--space", "lr=log:1e-4..1",
         "--space", "warmup=none,10%", "--trials", "6", "--pruner", "none", "--study", "shared"]  # fmt: skip


def start(data: Path, root: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "halftone", "tune", str(data), *FLAGS, "--run.root", str(root), "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not condition():
        time.sleep(0.005)


@pytest.mark.slow
def test_two_processes_share_a_study_and_what_one_left_is_finished(tmp_path: Path) -> None:
    data, root = write_npz(tmp_path / "tiny.npz", train=160, size=8), tmp_path / "runs"
    first = start(data, root)
    # a state within the second epoch of the first trial
    wait_for(lambda: bool(list((root / "shared/trial-000/checkpoints").glob("step-00000001[2468].safetensors"))), first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (root / "shared/trial-000/trial.json").exists()
    others = [start(data, root), start(data, root)]
    ended = [process.communicate(timeout=240) for process in others]
    assert [process.returncode for process in others] == [0, 0], ended
    rows = read_table(root / "shared/trials.csv")
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert {row["status"] for row in rows} == {"finished"}
    for row in rows:
        steps = read_table(root / "shared" / row["folder"] / "steps.csv")
        assert [int(step["tried"]) for step in steps] == list(range(1, 31))  # none is missing or done twice
    said = [[line.split()[1] for line in err.splitlines() if line.strip().startswith("trial ")] for _, err in ended]
    summaries = [json.loads(out) for out, _ in ended]
    assert max(len(summary["outcomes"]) for summary in summaries) == 6
    assert all(said), ended  # each of them trained some
