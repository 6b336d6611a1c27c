"""`halftone weights` and `evaluate` with a file: what they print, what they write, how they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.cli.main import main
from halftone.run.model_file import stored_card
from halftone.weights.files import load_weights, save_plain
from samples import write_npz


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    data = write_npz(root / "tiny.npz")
    quick = ["--model", "cifar_resnet8", "--epochs", "3", "--threads", "1", "--precision", "fp32", "--run.keep", "9",
             "--batch-size", "32", "--no-run.report", "--no-run.tensorboard"]  # fmt: skip
    assert main(["train", str(data), "--run.root", str(root), "--name", "run", *quick]) == 0
    return root / "run"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()

    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_show_tells_people_and_programs(run: Path, said: Any) -> None:
    assert main(["weights", "show", str(run)]) == 0
    out, _ = said()
    assert out.splitlines()[0].split()[:3] == ["tensor", "shape", "type"]
    assert "stem.0.weight" in out and "16x3x3x3" in out
    assert "weights of a run, cifar_resnet8, 3 classes (across, aslant, down), 16 x 16 pixels" in out
    assert main(["weights", "show", str(run / "best.safetensors"), "--json"]) == 0
    found = json.loads(said()[0])
    tensors = load_weights(run / "best.safetensors").tensors
    assert {row["name"] for row in found["tensors"]} == set(tensors)
    assert found["totals"]["num_elements"] == sum(tensor.numel() for tensor in tensors.values())
    assert found["card"]["name"] == "cifar_resnet8"


def test_show_reads_any_origin(run: Path, tmp_path: Path, said: Any) -> None:
    torch.save({"state_dict": {"w": torch.tensor([1e6, float("nan"), 1e-9, 0.0])}}, tmp_path / "w.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    assert main(["weights", "show", str(tmp_path / "w.pt")]) == 0
    out, _ = said()
    assert "25.0% to inf, 25.0% to 0" in out
    assert "not finite" in out
    assert "a file of other origin" in out
    newest = max((run / "checkpoints").iterdir())
    assert main(["weights", "show", str(newest)]) == 0
    assert "the weights of a checkpoint, epoch 3, step 9" in said()[0]


def test_diff_ends_in_one_sentence(run: Path, tmp_path: Path, said: Any) -> None:
    best = run / "best.safetensors"
    assert main(["weights", "diff", str(best), str(run)]) == 0
    out, _ = said()
    assert out.splitlines() == [f"identical to the bit: {len(load_weights(best).tensors)} tensors"]
    first, newest = min((run / "checkpoints").iterdir()), max((run / "checkpoints").iterdir())
    assert main(["weights", "diff", str(first), str(newest)]) == 0
    out, _ = said()
    assert "changed" in out.splitlines()[-1]
    assert main(["weights", "diff", str(first), str(newest), "--json"]) == 0
    found = json.loads(said()[0])
    changes = [one["relative"] for one in found["changed"] if one["relative"] is not None]
    assert changes and changes == sorted(changes, reverse=True)
    assert found["identical"] is False


def test_average_gives_an_account_and_a_model(run: Path, tmp_path: Path, said: Any) -> None:
    out_file = tmp_path / "soup.safetensors"
    words = ["weights", "average", str(run), "--last", "3", "--out", str(out_file), "--method", "greedy"]
    assert main([*words, "--holdout", "0.5"]) == 0
    out, _ = said()
    assert out.count("step-") == 3
    assert "added" in out
    assert "held out: accuracy" in out
    assert f"saved: {out_file}" in out
    card = stored_card(out_file)
    assert card is not None
    assert main(["evaluate", str(run), "--weights", str(out_file), "--json"]) == 0
    assert json.loads(said()[0])["accuracy"] == card.accuracy
    assert main(["evaluate", str(out_file), str(run.parent / "tiny.npz"), "--json"]) == 0
    assert json.loads(said()[0])["accuracy"] == card.accuracy
    assert main(words) == 2
    assert "is there already" in said()[1]
    assert main([*words, "--force", "--json"]) == 0
    found = json.loads(said()[0])
    assert found["accuracy"] >= max(one["accuracy"] for one in found["ingredients"])
    assert found["has_card"] is True


def test_convert_there_and_back(run: Path, tmp_path: Path, said: Any) -> None:
    best, there, back = run / "best.safetensors", tmp_path / "w.pth", tmp_path / "w.safetensors"
    assert main(["weights", "convert", str(best), str(there), "--prefix", "module."]) == 0
    assert "its card, which predict needs, stays behind" in said()[0]
    assert all(name.startswith("module.") for name in torch.load(there, weights_only=True))
    assert main(["weights", "convert", str(there), str(back)]) == 0
    assert "removed from every name: module." in said()[0]
    assert main(["weights", "diff", str(best), str(back)]) == 0
    assert "identical to the bit" in said()[0]


def test_a_model_in_half_precision_still_predicts(run: Path, tmp_path: Path, said: Any) -> None:
    half = tmp_path / "half.safetensors"
    assert main(["weights", "convert", str(run), str(half), "--dtype", "fp16"]) == 0
    out, _ = said()
    assert "rounded to float16: largest error" in out and "0 to infinity" in out
    card = stored_card(half)
    assert card is not None and card.accuracy is None  # it was measured on other numbers
    assert half.stat().st_size < 0.7 * (run / "best.safetensors").stat().st_size
    assert main(["evaluate", str(half), str(run.parent / "tiny.npz")]) == 0


def test_numbers_that_fp16_cannot_hold(tmp_path: Path, said: Any) -> None:
    save_plain(tmp_path / "w.safetensors", {"w": torch.tensor([1e5, 1.0])})
    words = ["weights", "convert", str(tmp_path / "w.safetensors"), str(tmp_path / "h.pt"), "--dtype", "fp16"]
    assert main(words) == 4
    assert "1 numbers of" in said()[1]
    assert not (tmp_path / "h.pt").exists()
    assert main([*words, "--force"]) == 0
    assert "1 to infinity" in said()[0]
    assert torch.load(tmp_path / "h.pt", weights_only=True)["w"].tolist() == [float("inf"), 1.0]


@pytest.mark.parametrize(
    ("words", "code", "fault"),
    [
        (["weights", "show", "absent.pt"], 4, "there is no run or weight file absent.pt"),
        (["weights", "convert", "RUN", "out.onnx"], 2, "the suffix says what is written"),
        (["weights", "convert", "RUN", "RUN"], 2, "the suffix"),
        (["weights", "average", "RUN", "--out", "x.safetensors"], 2, "takes two files or more"),
        (["weights", "average", "RUN", "--last", "2", "--out", "RUN"], 2, "is a folder"),
        (["weights", "average", "--out", "x.safetensors"], 2, "two files or more, not 0"),
        (["evaluate", "RUN/best.safetensors"], 2, "does not say which images"),
        (["evaluate", "RUN/best.safetensors", "digits", "--weights", "best"], 2, "is a weight file itself"),
        (["evaluate", "RUN", "--data.mean", "0.5"], 2, "data.mean is settled"),
        (["evaluate", "RUN/best.safetensors", "digits", "--data.std", "0"], 2, "must not be 0"),
    ],
)
def test_faults_are_one_line(
    run: Path, words: list[str], code: int, fault: str, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("RUN", str(run)) for word in words]) == code
    out, err = said()
    assert out == ""
    assert fault in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_help_lists_the_commands(said: Any) -> None:
    assert main(["weights", "--help"]) == 0
    out, _ = said()
    assert all(word in out for word in ("show", "diff", "average", "convert"))
