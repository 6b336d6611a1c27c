"""`halftone diagnose weights` and `--init`: what they print and what they leave."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from halftone.cli.main import main
from samples import write_npz


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    data = write_npz(tmp_path / "tiny.npz")
    return [str(data), "--threads", "1", "--batch-size", "16", "--precision", "fp32"]


def test_a_verdict_for_each_start_and_advice(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out = tmp_path / "out"
    starts = ["--init", "xavier", "--compare", "he,lsuv"]
    assert main(["diagnose", "weights", *flags, "--model", "plain30", *starts, "--out", str(out)]) == 0
    said, talk = capsys.readouterr()
    lines = said.splitlines()
    assert lines.count("init xavier-uniform" + " " * (len(lines[0]) - 19)) == 1
    titles = "layer then mean std after dead sat. grad w grad"
    assert [" ".join(line.split()) for line in lines].count(titles) == 3
    assert sum(line.startswith("layers.28.0 ") for line in lines) == 3
    assert "plain30, 16 training images, forward and back, before training" in lines
    assert any(line.startswith("xavier-uniform: vanishes: ") and "fall by a factor of" in line for line in lines)
    assert any(line.startswith("he-normal: healthy: ") for line in lines)
    assert lines[-1].startswith("advice: --init lsuv; with it, healthy: ")
    assert f"picture: {out / 'weights_health.png'}" in talk
    with Image.open(out / "weights_health.png") as picture:
        assert picture.format == "PNG"


def test_numbers_are_on_standard_output_and_in_a_file(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["diagnose", "weights", *flags, "--model", "plain30", "--init", "he", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr()[0])
    assert found == json.loads((out / "weights_health.json").read_text())
    assert [one["init"]["scheme"] for one in found] == ["he-normal"]
    assert found[0]["verdict"]["outcome"] == "healthy"
    assert len(found[0]["layers"]) == 30


def test_a_healthy_network_needs_nothing(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "weights", *flags, "--model", "cifar_resnet8", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr()[0].splitlines()[-1] == "advice: nothing to do"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--init", "hee"], "init.scheme = 'hee'"),
        (["--compare", "he,xaver"], "did you mean 'xavier'?"),
        (["--init.layers", "haed=zeros"], "did you mean 'head'?"),
        (["--init.zero-gamma"], "init.zero_gamma: no residual branch of the network ends with a norm"),
        (["--init", "he", "--init.std", "0.1"], "std = 0.1 is for normal"),
        (["--model", "plain1"], "the depth is a number of layers from 2 to 200"),
        (["--model", "plain20_tan"], "did you mean 'tanh'?"),
    ],
)
def test_faults_are_one_line(flags: list[str], more: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = [] if "--model" in more else ["--model", "plain30"]
    assert main(["diagnose", "weights", *flags, *model, *more]) == 2
    said, talk = capsys.readouterr()
    assert said == ""
    assert words in talk
    assert "Traceback" not in talk


def test_a_place_that_is_none_is_named(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    assert main(["diagnose", "weights", *flags, "--model", "plain2", "--out", str(tmp_path / "taken")]) == 6
    assert f"error: cannot write {tmp_path / 'taken'}: File exists" in capsys.readouterr()[1]


def test_the_plan_says_how_weights_begin(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    layers = ["--init", "he", "--init.layers", "head=zeros", "--init.whiten"]
    assert main(["plan", *flags, "--model", "plain30", *layers, "--json"]) == 0
    plan = json.loads(capsys.readouterr()[0])
    assert plan["weights"] == ("fresh; he-normal in 29 layers, zeros in 1 layer; 27 filters of layers.0.0 whiten")


def test_loaded_weights_win_and_a_run_repeats(tmp_path: Path, flags: list[str]) -> None:
    runs = ["--run.root", str(tmp_path / "runs"), "--no-run.report", "--no-run.tensorboard", "--warmup", "0it"]
    short = ["train", *flags, "--model", "cifar_resnet8", *runs, "--max-steps", "1", "--lr", "1e-6"]
    for name in ("one", "two"):
        assert main([*short, "--init", "orthogonal", "--name", name]) == 0
    weights = [load_file(tmp_path / "runs" / name / "last.safetensors") for name in ("one", "two")]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    again = ["--weights", str(tmp_path / "runs/one/last.safetensors"), "--init", "zeros", "--name", "three"]
    assert main([*short, *again]) == 0
    loaded = load_file(tmp_path / "runs/three/last.safetensors")
    assert torch.allclose(loaded["stem.0.weight"], weights[0]["stem.0.weight"], atol=1e-4)
