"""Real processes, told to stop and left alone by their readers; those that are killed are in tests/exactness."""

import signal
import subprocess
import sys
import time
from pathlib import Path

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


def test_D5_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=160, size=24)
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--epochs", "4", "--name", "left"]
    process = start(["train", str(root), *flags])
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()  # before the first line: every one of them is written to nobody
    assert process.wait(120) == 0
    assert len(numbers(tmp_path / "runs/left", "results.csv")) == 4
