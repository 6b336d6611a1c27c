"""`halftone diagnose precision`: what it prints and what it leaves."""

import json
from pathlib import Path

import pytest
from PIL import Image

from halftone.cli.main import main
from halftone.run.recipe import read_recipe
from samples import write_npz


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    data = write_npz(tmp_path / "tiny.npz")
    return ["diagnose", "precision", str(data), "--model", "cifar_resnet8", "--batch-size", "16", "--threads", "1",
            "--epochs", "1", "--out", str(tmp_path / "out")]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_numbers_and_picture_are_left_and_json_is_on_standard_output(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--steps", "1", "--json"]) == 0
    out, err = said(capsys)
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out/precision_health.json").read_text())
    assert found["format"] == found["health"]["format"] == "fp16"
    assert found["num_steps"] == 1
    assert len(found["health"]["layers"]) > 10
    with Image.open(tmp_path / "out/precision_health.png") as picture:
        assert picture.format == "PNG"
    assert f"picture: {tmp_path / 'out/precision_health.png'}" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "precision_health.json",
        "precision_health.png",
    ]


def test_people_get_a_table_a_summary_and_advice(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = tmp_path / "fixed.yaml"
    assert main([*flags, "--steps", "1", "--fix", str(fixed)]) == 0
    out, err = said(capsys)
    assert "lost scaled" in out
    assert "stages.0" in out or "head" in out
    assert "cifar_resnet8 in fp16, 1 steps of 16 images watched in fp32" in out
    assert "one rehearsed step as it is (loss scale 1, 0 layers in fp32)" in out
    assert "without fp32 master weights" in out
    assert "advice: start from a loss scale of " in out
    assert str(fixed) in err
    recipe = read_recipe(fixed)
    assert recipe.precision.mode == "fp16"
    assert f"--precision.scale {recipe.precision.scale:g}" in out
    assert recipe.model.name == "cifar_resnet8"
    assert main(["plan", "--recipe", str(fixed), "--precision.emulate", "fp16"]) == 0


def test_another_format(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--steps", "1", "--as", "bf16"]) == 0
    out, _ = said(capsys)
    assert "lost scaled" not in out
    assert "the network fits into bf16" in out or "keep" in out


def test_types_are_shown_for_the_precision_of_the_recipe(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wanted = ["--precision", "bf16", "--precision.layers", "head=fp32", "--dtypes"]
    assert main([*flags, *wanted]) == 0
    lines = said(capsys)[0].splitlines()
    assert "cifar_resnet8, one step in bf16 on " in lines[0]
    titles = "layer kind weights master compute output grad w grad optim"
    assert " ".join(lines[1].split()) == titles
    head = next(line.split() for line in lines if line.startswith("head "))
    assert head[:4] == ["head", "linear", "fp32", "fp32"]
    assert not (tmp_path / "out").exists()
    assert main([*flags, *wanted, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(said(capsys)[0])}
    assert rows["head"]["compute"] == "fp32"
    convolutions = [row for row in rows.values() if row["kind"] == "convolution"]
    assert convolutions and all(row["compute"] == "bf16" and row["weights"] == "fp32" for row in convolutions)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--steps", "0"], 2, "steps = 0: it must be at least 1"),
        (["--as", "int8"], 2, "int8"),
        (["--precision.layers", "hed=fp32", "--dtypes"], 2, "did you mean 'head'"),
        (["--data.source", "nowhere"], 2, ""),
    ],
)
def test_faults_are_one_line(
    flags: list[str], more: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, *more]) == code
    out, err = said(capsys)
    assert out == ""
    assert words in err
    assert "Traceback" not in err
