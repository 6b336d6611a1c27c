"""compare at the command line: the result, going on, and what is refused in a line."""

import json
from pathlib import Path

import pytest

from halftone.cli.main import main
from halftone.comparison.records import Comparison

SMALL = ["--model", "plain4", "--epochs", "1", "--max-steps", "4", "--precision", "fp32", "--optimizer", "sgd"]


def test_a_comparison_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "digits", "--vary", "batch-size=64,128", "--seeds", "1", *SMALL, "--json"]) == 0
    printed = capsys.readouterr()
    folder = tmp_path / "runs" / "compare-digits-1"
    found = Comparison.parse(json.loads((folder / "verdict.json").read_text()))
    assert json.loads(printed.out)["verdicts"][0]["kind"] == found.verdicts[0].kind == "too few"
    assert f"report: {folder / 'compare.html'}" in printed.err
    assert len(found.outcomes) == 2
    assert {outcome.status for outcome in found.outcomes} == {"finished"}
    for name in ("compare.html", "runs.csv", "differences.png", "curves.png", "trade_offs.png", "classes.png"):
        assert (folder / name).stat().st_size > 500, name

    assert main(["compare", "--resume", str(folder), "--margin", "2"]) == 0  # nothing is trained again
    assert found.verdicts[0].sentence in capsys.readouterr().out
    again = Comparison.parse(json.loads((folder / "verdict.json").read_text()))
    assert again.outcomes == found.outcomes
    assert again.config.margin == 2

    runs = sorted((folder / "runs").iterdir())
    asked = ["--runs", f"small={runs[0]}", "--runs", f"large={runs[1]}"]
    assert main(["compare", *asked, "--name", "elsewhere"]) == 0
    assert "large" in capsys.readouterr().out
    assert (tmp_path / "runs" / "elsewhere" / "compare.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["digits"], 2, "nothing to compare"),
        (["--vary", "lr=1,2"], 2, "DATA is missing"),
        (["digits", "--vary", "lr=1"], 2, "two values or more"),
        (["digits", "--vary", "lr=1,much"], 2, "--vary lr=much: optimizer.lr = 'much'"),
        (["digits", "--vary", "lr=1,2", "--seeds", "none"], 2, "seeds = 'none'"),
        (["digits", "--vary", "lr=1,2", "--measure", "acuracy"], 2, "did you mean 'accuracy'?"),
        (["digits", "--vary", "data=digits,mnist"], 2, "in pairs"),
        (["nowhere", "--vary", "lr=1,2"], 3, "nowhere"),
        (["--resume", "nowhere"], 4, "not the folder of a comparison"),
        (["--resume", "nowhere", "--epochs", "3"], 2, "--resume takes no --epochs"),
        (["--runs", "a=x"], 2, "names one variant"),
        (["--runs", "a=x", "--runs", "b=y"], 4, "not a run folder"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_leaves_nothing(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.rglob("comparison.yaml"))
