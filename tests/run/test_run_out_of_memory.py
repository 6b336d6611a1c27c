"""A run whose memory runs out: it goes on in parts, says so everywhere, and goes on so when it is resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from halftone.base.tables import read_table
from halftone.verbs import train
from halftone.weights.files import load_sealed
from samples import numbers, stopped_and_resumed, wish, write_npz


class Short(nn.Module):
    """A small network that has no memory for more than so many images at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.2))
        self.head, self.room = nn.Linear(4 * 14 * 14, 3), room

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.head(self.layers(images))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


def same(first: Path, second: Path) -> bool:
    one, other = (load_sealed(folder / "last.safetensors").tensors for folder in (first, second))
    return all(torch.equal(one[name], other[name]) for name in one)


def test_D9_D10_a_divided_run_says_so_everywhere_and_is_resumed_divided(tiny: Path, tmp_path: Path) -> None:
    settings = {"run": {"root": tmp_path, "checkpoint_every": "2it"}, "average": 0.9}
    short = train(wish(tiny, tmp_path, **{**settings, "run": {**settings["run"], "report": True}}), model=Short(5))
    assert {row["num_parts"] for row in read_table(short.path / "results.csv")} == {"4"}
    first, _, second = read_table(short.path / "notices.csv")
    assert first["tried"] == "1"
    assert "a batch of 16 passes through the network in 4 parts of at most 4 images" in first["text"]
    assert "batch normalisation sees the parts" in first["text"]
    assert "at most 3 of the validation images pass through the network at once" in second["text"]
    assert "Noticed on the way" in (short.path / "report.html").read_text()
    assert "in 4 parts of at most 4 images" in (short.path / "report.html").read_text()

    asked = train(wish(tiny, tmp_path, **settings, accumulate=4), model=Short(24))
    assert same(short.path, asked.path)

    recipe = wish(tiny, tmp_path, **{**settings, "run": {**settings["run"], "name": "stopped"}})
    network = Short(5)

    def room_again() -> None:  # whoever took the memory has left when the run goes on
        network.room = 24

    stopped_and_resumed(recipe, tmp_path / "stopped", 5, model=network, between=room_again)
    assert numbers(tmp_path / "stopped", "steps.csv") == numbers(short.path, "steps.csv")
    assert same(short.path, tmp_path / "stopped")
    said = [row["text"] for row in read_table(tmp_path / "stopped" / "notices.csv")]
    assert any("memory ran out before: each part of a batch is still divided by 4" in text for text in said)


NETWORK = """
import resource
import torch
from torch import nn

class Wide(nn.Module):
    \"\"\"Takes 10 MB for each image and tensor, and lets the process have 200 MB more from then on.\"\"\"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(-1, 1, 200)[None, :, None])
        self.norm, self.head = nn.BatchNorm1d(200), nn.Linear(200, num_classes)
        self.limited = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and not self.limited:
            held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + 200 * 2**20,) * 2)
            self.limited = True
        return self.head(self.norm((images.flatten(1)[:, None] * self.scale).relu().mean(2)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts address space so")
def test_D9_memory_that_is_really_limited(tmp_path: Path) -> None:
    """Too little is left for a batch of 32, enough for its parts."""
    data = write_npz(tmp_path / "set.npz", train=32, test=20, size=64)
    (tmp_path / "net.py").write_text(NETWORK)
    flags = ["--model", f"{tmp_path}/net.py:Wide", "--batch-size", "32", "--epochs", "1", "--precision", "fp32"]
    flags += ["--lr", "0.1", "--augment", "none", "--warmup", "0it", "--accumulate", "1", "--name", "limited"]
    flags += ["--run.root", str(tmp_path), "--no-run.report", "--no-run.tensorboard", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "halftone", "train", str(data), *flags],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "a batch of 32 passes through the network in " in done.stderr
    assert "can't allocate memory" in done.stderr
    (row,) = read_table(tmp_path / "limited" / "results.csv")
    assert 4 <= int(row["num_parts"]) <= 16
    report = json.loads((tmp_path / "limited" / "classification_report.json").read_text())
    assert report["num_images"] == 20
