"""tune on the command line: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest

from halftone.base.tables import read_table
from halftone.cli.main import main
from halftone.run.recipe import read_recipe

FLAGS = ["--model", "cifar_resnet8", "--threads", "1", "--precision", "fp32", "--batch-size", "32", "--epochs", "2",
         "--max-steps", "6", "--optimizer", "sgd", "--no-keep-memory"]  # fmt: skip
SPACE = ["--space", "lr=log:1e-4..1", "--space", "warmup=none,20%"]


def test_a_study_on_digits_ends_with_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "digits", *FLAGS, *SPACE, "--trials", "2", "--study", "first", "--run.root", str(tmp_path)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    best = Path(out.strip())
    assert best == tmp_path / "first/best.yaml"
    assert read_recipe(best).max_steps == 6
    assert f"halftone train --recipe {best}" in err
    assert "2 of 2 trials have ended" in err
    assert [line.split()[:2] for line in err.splitlines() if line.strip().startswith("trial ")][:2] == [
        ["trial", "0"],
        ["trial", "1"],
    ]
    assert len(read_table(tmp_path / "first/trials.csv")) == 2
    assert main([*words, "--json"]) == 0  # it is there already, and goes on
    summary = json.loads(capsys.readouterr().out)
    assert [outcome["number"] for outcome in summary["outcomes"]] == [0, 1]
    assert summary["recipe"] == str(best)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "space is empty"),
        (["--space", "lr"], "it must be SETTING=VALUES"),
        (["--space", "lr=log:1e-4..1e9"], "space lr = log:1e-4..1e9: optimizer.lr"),
        (["--space", "rate=1,2"], "unknown setting 'rate'"),
        ([*SPACE, "--trials", "0"], "trials = '0'"),
        ([*SPACE, "--sampler", "tpee"], "sampler = 'tpee'"),
        ([*SPACE, "--name", "mine"], "a study names its runs itself"),
        ([*SPACE, "--run.track", "wandb"], "go to its own folder only"),
        ([*SPACE, "--sampler", "grid"], "a grid needs values"),
        (["--space", "lr=0.1,1", "--sampler", "grid", "--trials", "2"], "the grid has 2 points beside the defaults"),
    ],
)
def test_a_wrong_request_is_one_line(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "digits", *FLAGS, *flags, "--run.root", str(tmp_path / "runs")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_no_storage_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("remember the milk " * 100)
    words = ["tune", "digits", *FLAGS, *SPACE, "--storage", str(place), "--run.root", str(tmp_path / "runs")]
    assert main(words) == 4
    assert f"storage = {place}: it cannot be opened" in capsys.readouterr().err
    assert place.read_text().startswith("remember the milk")
