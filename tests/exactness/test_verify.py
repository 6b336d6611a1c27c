"""verify-resume: of a run that resumes exactly, of one that does not, and of a machine that does not repeat."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from forked import Forks
from halftone.base.errors import DataError, HalftoneError, Interrupted, ModelFileError, RecipeError, ResourceError
from halftone.cli import main as command_line
from halftone.exactness import process, verify
from halftone.exactness.records import Kill, Trained, Verdict
from halftone.exactness.verify import draw_steps
from halftone.run.stopping import StopRequest
from samples import wish, write_npz

FORGETFUL = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(192, num_classes)
        self.calls = 0
    def forward(self, images):
        self.calls += self.training
        return self.head(images.flatten(1)) * (1 + 0.01 * self.calls)
"""
"""A network that remembers something where no state is looked for."""
UNSTEADY = FORGETFUL.replace("self.calls += self.training", "self.calls = __import__('os').getpid() % 97")


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    data = write_npz(tmp_path / "tiny.npz", train=72, size=8)
    return [str(data), "--model", "plain4", "--batch-size", "12", "--epochs", "2", "--precision", "fp32",
            "--lr", "0.02", "--threads", "1"]  # fmt: skip


@pytest.fixture
def forked(children: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command starts its processes by forking, which is faster; `launch` itself has a test of its own."""
    monkeypatch.setattr(process, "launch", children.launch)


def test_an_exact_run_is_called_exact(
    quick: list[str], tmp_path: Path, forked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "out")]
    assert command_line.main(["verify-resume", *quick, "--json", "--kills", "4", *output]) == 0
    said = capsys.readouterr()
    verdict = Verdict.model_validate_json(said.out)
    assert verdict.exact
    assert verdict.num_steps == 12
    assert [kill.where for kill in verdict.kills] == ["in a step", "in a save", "right after resuming", "in a step"]
    assert f"{verdict.replayed}" == str(sum(kill.step - kill.resumed_from for kill in verdict.kills))
    assert len(verdict.digest) == 64
    assert said.err.count("killed") == 5
    assert {"straight", "killed", "log.txt"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert command_line.main(["verify-resume", *quick, *output]) == 2
    assert "the folder is taken" in capsys.readouterr().err


def own_network(tmp_path: Path, text: str, quick: list[str]) -> list[str]:
    (tmp_path / "net.py").write_text(text)
    place = quick.index("plain4")
    return [*quick[:place], f"{tmp_path / 'net.py'}:Net", *quick[place + 1 :]]


def test_what_is_remembered_elsewhere_is_found_and_named(
    quick: list[str], tmp_path: Path, forked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = own_network(tmp_path, FORGETFUL, quick)
    assert command_line.main(["verify-resume", *flags, "--kills", "1", "--run.checkpoint-every", "5it"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert any(line.startswith("differs: steps.csv, loss of step ") for line in lines)
    assert any(line.startswith("differs: final state, weights head.weight: 5") for line in lines)
    assert any(line.startswith("differs: last.safetensors, head.bias: 3 of 3 numbers") for line in lines)
    assert lines[-2].startswith("error: not exact: the run that was resumed differs from the one that was not")
    assert lines[-1].startswith("hint: a network of yours must keep")


def test_a_machine_that_does_not_repeat_is_told_from_a_state_that_is_not_whole(
    quick: list[str], tmp_path: Path, forked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = own_network(tmp_path, UNSTEADY, quick)
    assert command_line.main(["verify-resume", *flags, "--kills", "1"]) == 6
    assert "even two runs that were never stopped differ here" in capsys.readouterr().err


def test_processes_of_their_own(quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once as it is: new processes, one of which dies."""
    assert command_line.main(["verify-resume", *quick, "--kills", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("exact: 12 steps, 1 kills, ")
    assert "killed in a step, after step" in said.err


def test_what_ends_training_is_said_as_training_says_it(
    tmp_path: Path, forked: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["verify-resume", str(tmp_path / "nowhere")]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1
    for kills in ("0", "1001", "-3"):
        assert command_line.main(["verify-resume", "digits", "--kills", kills]) == 2
        assert f"kills = {kills}: it must be from 1 to 1000" in capsys.readouterr().err
    assert command_line.main(["verify-resume", "digits", "--max-steps", "1", "--threads", "1"]) == 2
    assert "1 optimizer steps are too few" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "said", "kind", "text"),
    [
        (3, "error: no such data\nhint: look again\n", DataError, "no such data"),
        (-9, "", ResourceError, "ended by signal 9, which was not ours"),
        (1, "note: x\nerror: ValueError: y\n", HalftoneError, "ValueError: y"),
        (2, "", RecipeError, "training ended with exit code 2"),
        (4, "error: first\nerror: last\n", ModelFileError, "last"),
    ],
)
def test_the_fault_of_a_process(tmp_path: Path, status: int, said: str, kind: Any, text: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(said)
    fault = process.fault_of(status, log)
    assert type(fault) is kind
    assert text in str(fault)
    assert status != 3 or fault.hint == "look again"


def test_where_processes_die_follows_the_seed() -> None:
    assert draw_steps(100, 5, first=2, seed=1) == draw_steps(100, 5, first=2, seed=1)
    assert draw_steps(100, 5, first=2, seed=1) != draw_steps(100, 5, first=2, seed=2)
    for steps, kills, first in ((2, 1, 2), (3, 5, 2), (50, 45, 6), (50, 200, 6), (9, 1, 30)):
        drawn = draw_steps(steps, kills, first=first, seed=0)
        assert len(drawn) == kills
        assert drawn == sorted(drawn)
        assert set(drawn) <= set(range(min(first, steps), steps + 1))
    assert draw_steps(50, 45, first=6, seed=0) == list(range(6, 51))


def test_events_come_in_order(children: Forks, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "tiny.npz", train=72, size=8)
    recipe = wish(data, tmp_path, model="plain4", batch_size=12, lr=0.02)
    (tmp_path / "out").mkdir()
    kinds = [type(event) for event in verify.verify(recipe, tmp_path / "out", kills=2, launch=children.launch)]
    assert kinds == [Trained, Kill, Kill, Trained, Verdict]
    assert json.loads((tmp_path / "out/straight/environment.json").read_text())["threads"] == 1


def test_D3_a_stop_ends_the_process_that_trains(tmp_path: Path) -> None:
    log, clock = tmp_path / "log.txt", time.monotonic()
    with pytest.raises(Interrupted, match="before there was a verdict") as caught:
        process.launch(["train", "digits", "--epochs", "999"], "", log, StopRequest(signal.SIGTERM))
    assert caught.value.exit_code == 75
    assert time.monotonic() - clock < 10
