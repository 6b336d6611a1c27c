"""plan and find-lr on the command line: what they print and write, and what they refuse."""

import json
from pathlib import Path

import pytest

from halftone.base.tables import read_table
from halftone.cli.main import main
from samples import write_npz

SMALL = ["--model", "cifar_resnet8", "--threads", "1", "--device", "cpu", "--precision", "fp32", "--batch-size", "16"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_npz(tmp_path / "tiny.npz", size=8))


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_plan_draws_the_schedule_and_warns(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "schedule.png"
    flags = ["--warmup", "6ep", "--warmup.shape", "constant", "--epochs", "8", "--lr", "0.2"]
    assert main(["plan", data, *SMALL, *flags, "--picture", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "warmup: 6ep = 36 steps = 6 epochs = 576 images, constant from 0.01 of the peak" in " ".join(out.split())
    assert "0.2 ┤" in out
    assert "8 epochs" in out
    assert "end of warmup ↑" in out
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    assert "jumps by a factor of 100" in warnings[0]
    assert str(picture) in err
    assert is_png(picture)


def test_plan_as_json_has_the_warnings(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", data, *SMALL, "--warmup", "80%", "--epochs", "8", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["warnings"]) == 1
    assert plan["rates"] is None


def test_find_lr_says_where_it_learns(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "range"
    assert main(["find-lr", data, *SMALL, "--optimizer", "sgd", "--steps", "40", "--out", str(out)]) == 0
    said, err = capsys.readouterr()
    assert "steps of 16 images with sgd, at rates from 1.3e-06" in said
    assert "the loss fell fastest at" in said
    assert "suggestion: --lr " in said
    assert str(out / "lr_range.png") in err
    assert is_png(out / "lr_range.png")
    rows = read_table(out / "lr_range.csv")
    assert list(rows[0]) == ["rate", "loss", "smoothed"]
    rates = [float(row["rate"]) for row in rows]
    assert rates == sorted(rates)
    assert abs(float(rows[0]["smoothed"]) - float(rows[0]["loss"])) < 1


def test_find_lr_as_json(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-lr", data, *SMALL, "--steps", "20", "--out", str(tmp_path / "range"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"steepest", "edge", "suggestion", "highest", "num_steps"}


def test_a_network_that_does_not_learn_gets_no_suggestion(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--lr", "1e-9", "--steps", "20", "--out", str(tmp_path / "range")]
    assert main(["find-lr", data, *SMALL, *flags]) == 0
    assert "no suggestion" in capsys.readouterr().out


def test_too_few_steps_are_refused(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find-lr", data, "--steps", "5"]) == 2
    assert "steps = 5: it must be at least 20" in capsys.readouterr().err
