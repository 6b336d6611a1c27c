"""D6, D7: disks that really are full: a small file system in memory, and a limit on the size of files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from halftone.base.errors import ResourceError
from halftone.base.tables import read_table
from halftone.loop.events import StepTaken
from halftone.run.checkpoint import checkpoints, load_newest
from halftone.run.events import CheckpointSaved, Event, Finished, Notice, Started
from halftone.run.model_file import load_model
from halftone.verbs import resume, train
from samples import wish, write_npz


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB: room for the files of a small run, twice."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@dataclass
class Filler:
    """Fills the disk after one step and frees it after another; remembers what was said and what was whole by then."""

    disk: Path
    full_from: int
    full_to: int
    said: list[str] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    whole: Path | None = None
    finished: bool = False
    folder: Path | None = None

    def hear(self, event: Event) -> None:
        filler = self.disk / "filler"
        match event:
            case Started():
                self.folder = event.folder.path
            case StepTaken() if event.tried == self.full_from:
                self._fill(filler)
            case StepTaken() if event.tried == self.full_to:
                assert self.folder is not None
                self.whole = load_newest(self.folder / "checkpoints")[1]
                assert not list(self.folder.rglob("*.tmp"))
                filler.unlink()
            case Notice(text):
                self.said.append(text)
            case CheckpointSaved():
                self.saved.append(event.tried)
            case Finished():
                self.finished = True

    @staticmethod
    def _fill(filler: Path) -> None:
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def close(self) -> None:
        pass


def test_D6_a_disk_that_was_full_for_a_while_costs_no_state(small_disk: Path, tmp_path: Path) -> None:
    source = write_npz(tmp_path / "tiny.npz")
    filler = Filler(small_disk, full_from=3, full_to=9)
    run = train(wish(source, small_disk, run={"checkpoint_every": "2it"}), listeners=[filler])
    assert filler.whole is not None and filler.whole.name == "step-000000002.safetensors"
    assert [step for step in filler.saved if 2 < step < 9] == []
    assert max(filler.saved) == 12 and filler.finished
    assert any("the one before it is kept: disk full while writing" in text for text in filler.said)
    assert any("the best weights, of epoch 1, could not be saved: disk full" in text for text in filler.said)
    assert not list(run.path.rglob("*.tmp"))
    load_model(run.path / "best.safetensors")
    straight = train(wish(source, tmp_path / "straight"))
    for name in ("best.safetensors", "last.safetensors"):
        assert (run.path / name).read_bytes() == (straight.path / name).read_bytes()


def test_D6_a_disk_that_stays_full_ends_with_what_was_saved(small_disk: Path, tmp_path: Path) -> None:
    source = write_npz(tmp_path / "tiny.npz")
    filler = Filler(small_disk, full_from=3, full_to=10**6)
    with pytest.raises(ResourceError, match="disk full") as caught:
        train(wish(source, small_disk, run={"checkpoint_every": "2it"}), listeners=[filler])
    assert (caught.value.exit_code, filler.finished) == (6, False)
    assert "--resume" in caught.value.hint
    assert filler.folder is not None
    assert checkpoints(filler.folder / "checkpoints")[0].name == "step-000000002.safetensors"
    (small_disk / "filler").unlink()
    resume(filler.folder)
    straight = train(wish(source, tmp_path / "straight"))
    assert (filler.folder / "best.safetensors").read_bytes() == (straight.path / "best.safetensors").read_bytes()
    assert [row["tried"] for row in read_table(filler.folder / "steps.csv")] == [str(n) for n in range(1, 13)]


def test_D7_a_full_disk_under_the_tables_is_said_once_and_training_goes_on(small_disk: Path, tmp_path: Path) -> None:
    source = write_npz(tmp_path / "tiny.npz", train=192)
    filler = Filler(small_disk, full_from=6, full_to=94)  # rows of more than a page of the file system lie between
    run = train(wish(source, small_disk, batch_size=4, run={"checkpoint_every": "5it"}), listeners=[filler])
    assert filler.finished
    assert len([text for text in filler.said if "Tables failed and is left out" in text]) == 1
    rows = read_table(run.path / "steps.csv")
    assert [int(row["tried"]) for row in rows] == list(range(1, len(rows) + 1))


def test_D6_a_limit_on_files_ends_the_command_in_one_line(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "tiny.npz")
    words = [sys.executable, "-m", "halftone", "train", str(source), "--model", "cifar_resnet8", "--epochs", "1"]
    words += ["--precision", "fp32", "--lr", "0.1", "--batch-size", "16", "--run.root", str(tmp_path / "runs")]
    words += [
        "--name",
        "one",
        "--no-run.report",
        "--no-run.tensorboard",
        "--optimizer.probe-seconds",
        "0",
        "--threads",
        "1",
    ]
    limited = ["bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *words]  # 200 kB; the weights take 300
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it writes, too
    done = subprocess.run(limited, check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=plain)
    assert done.returncode == 6, done.stderr
    assert "disk full while writing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").rglob("*.tmp"))
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
    assert len(read_table(tmp_path / "runs/one/steps.csv")) == 6
