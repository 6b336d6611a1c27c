"""Storage that does not answer, seen by a real process."""

import subprocess
import sys
import time
from pathlib import Path

from samples import write_folder

_STUCK = """
import sys, threading
from pathlib import Path
from halftone.cli.main import main
from halftone.data import decode
read = decode.read_file
def stuck(path):
    if path.name == "0030.png":
        threading.Event().wait()
    return read(path)
decode.read_file = stuck
from halftone.data.sources import files
files.read_file = stuck
sys.exit(main(sys.argv[1:]))
"""
FLAGS = ["--model", "cifar_resnet8", "--epochs", "1", "--batch-size", "8", "--threads", "1", "--precision", "fp32",
         "--lr", "0.1", "--warmup", "none", "--data.feed", "streaming", "--data.timeout", "2",
         "--workers", "1"]  # fmt: skip


def test_A37_training_on_storage_that_hangs_ends_with_the_name_of_the_file(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--no-run.report", "--no-run.tensorboard"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _STUCK, "train", str(root), *flags],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "0030.png has not been read within 2 seconds" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60
