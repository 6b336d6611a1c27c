"""The command line, in one process: exit codes, one-line errors, data on standard output."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halftone.cli.main import main
from samples import write_folder, write_npz


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    """Flags that make any training short."""
    return ["--run.root", str(tmp_path / "runs"), "--model", "cifar_resnet8", "--max-steps", "2", "--threads", "1",
            "--no-run.report", "--no-run.tensorboard"]  # fmt: skip


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    captured = capsys.readouterr()
    return captured.out, captured.err.strip().splitlines()


def test_train_evaluate_predict_report(tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "set")
    assert main(["train", str(root), *quick, "--json", "--name", "one"]) == 0
    out, err = said(capsys)
    summary = json.loads(out)
    run = summary["run"]
    assert Path(run).name == "one"
    assert any("model.channels_last" in line for line in err)  # the plan is shown, as talk
    assert main(["evaluate", run, "--json"]) == 0
    evaluated = json.loads(said(capsys)[0])
    assert evaluated["accuracy"] == summary["accuracy"]
    assert evaluated["loss"] == summary["loss"]
    files = sorted(map(str, (root / "val").rglob("*.png")))
    assert main(["predict", run, *files, "--json", "--top", "2"]) == 0
    rows = [json.loads(line) for line in said(capsys)[0].splitlines()]
    assert [row["image"] for row in rows] == files
    assert all(len(row["top"]) == 2 for row in rows)
    right = [row["label"] == Path(row["image"]).parent.name for row in rows]
    assert sum(right) / len(right) == evaluated["accuracy"]
    losses = []
    for mode in ("fp32", "bf16-mixed"):
        assert main(["evaluate", run, "--precision", mode, "--json"]) == 0
        losses.append(json.loads(said(capsys)[0])["loss"])
    assert losses == [pytest.approx(summary["loss"], abs=0.05)] * 2
    assert losses[0] != losses[1]
    assert main(["predict", run, files[0], "--precision", "fp64"]) == 2
    assert main(["predict", run, files[0], "--precision", "fp32"]) == 0
    said(capsys)
    assert main(["evaluate", run]) == 0
    assert "accuracy" in said(capsys)[0]
    assert main(["predict", run, files[0]]) == 0
    assert files[0] in said(capsys)[0]
    assert main(["report", run]) == 0
    assert Path(said(capsys)[0].strip()).is_file()
    assert main(["report", run, run, "--out", str(tmp_path / "both.html")]) == 0
    assert "2 runs" in (tmp_path / "both.html").read_text()


def test_predict_names_what_it_cannot_read(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set")
    assert main(["train", str(root), *quick, "--name", "one"]) == 0
    said(capsys)
    good = str(next((root / "val").rglob("*.png")))
    (tmp_path / "bad.jpg").write_text("no picture")
    code = main(["predict", str(tmp_path / "runs/one"), good, str(tmp_path / "bad.jpg"), "absent.png", good, "--json"])
    out, err = said(capsys)
    assert code == 3
    assert len(out.splitlines()) == 2
    assert [line.partition(":")[0] for line in err] == ["error", "error"]
    assert "bad.jpg" in err[0] and "absent.png" in err[1]


def test_plan_says_why_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "digits", "--run.root", str(tmp_path / "runs"), "--epochs", "3"]) == 0
    out, _ = said(capsys)
    assert "held out by content" in out
    assert "▁" in out
    assert not (tmp_path / "runs").exists()
    assert main(["plan", "digits", "--json"]) == 0
    plan = json.loads(said(capsys)[0])
    assert {"choices", "settled", "asked"} <= plan.keys()


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) in (0, 6)
    found = json.loads(said(capsys)[0])
    assert {"torch", "threads", "memory", "device cpu"} <= {finding["what"] for finding in found}


def test_check_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "set")
    assert main(["check-data", str(root), "--strict"]) == 0
    assert "no problems" in said(capsys)[1]
    (root / "train/down/cut.png").write_bytes((root / "train/down/0002.png").read_bytes()[:200])
    (root / "train/across/same.png").write_bytes((root / "val/down/0002.png").read_bytes())
    assert main(["check-data", str(root)]) == 0
    out, err = said(capsys)
    assert "unreadable: train/down/cut.png" in out
    assert "in two parts and under two labels: train/across/same.png = val/down/0002.png" in out
    assert "3 problems" in err  # broken, in two parts, under two labels
    assert main(["check-data", str(root), "--strict", "--json"]) == 3
    found = json.loads(said(capsys)[0])
    assert found["parts"][0]["unreadable"][0]["name"] == "train/down/cut.png"


def one_class(root: Path) -> Path:
    (root / "only").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "only" / "a.png")
    return root


def empty_class(root: Path) -> Path:
    write_folder(root)
    (root / "train" / "hollow").mkdir()
    return root


def unknown_in_val(root: Path) -> Path:
    write_folder(root)
    (root / "val" / "down").rename(root / "val" / "dwon")
    return root


def all_broken(root: Path) -> Path:
    write_folder(root)
    for path in root.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def empty(root: Path) -> Path:
    root.mkdir()
    return root


BAD_DATA = [
    (lambda root: root / "absent", 3, "there is no data"),
    (empty, 3, "has no class folders"),
    (one_class, 3, "a classifier needs at least two"),  # A28
    (empty_class, 3, "holds no images"),  # A27
    (unknown_in_val, 3, "has classes that training does not: dwon"),  # A30
    (all_broken, 3, "cannot be read"),
]


@pytest.mark.parametrize(
    ("make", "code", "words"), BAD_DATA, ids=["absent", "empty", "one", "A27", "A30", "all-broken"]
)
def test_bad_data_is_one_line(
    make: object, code: int, words: str, tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    assert main(["train", str(make(tmp_path / "set")), *quick]) == code
    _check_error(capsys, words)
    assert not (tmp_path / "runs").exists()


def _check_error(capsys: pytest.CaptureFixture[str], words: str) -> None:
    out, err = said(capsys)
    assert out == ""
    errors = [line for line in err if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert words in errors[0]
    assert all(line.startswith(("error: ", "hint: ")) for line in err), err


def pickle_bomb(folder: Path) -> Path:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {folder}/canary",)

    path = folder / "bomb.pt"
    path.write_bytes(pickle.dumps({"weight": Bomb()}))
    return path


BAD_REQUESTS = [
    (["--epochs", "ten"], 2, "epochs = 'ten'"),
    (["--epochs", "0"], 2, "epochs = '0'"),
    (["--learning-rate", "1"], 2, "--learning-rate"),
    (["--optimizer", "sdg"], 2, "optimizer.name = 'sdg'"),
    (["--model", "resnet19"], 2, "model = 'resnet19' is not known"),
    (["--model", "nothing.py:Net"], 4, "there is no file"),
    (["--warmup", "100ep", "--epochs", "2", "--max-steps", "1000"], 2, "warmup.length = 100ep"),
    (["--precision", "fp16"], 2, "12 to 31 times slower"),
    (["--weights", "absent.safetensors"], 4, "there is no weight file"),
    (["--freeze", "nonsense"], 2, "matches no parameter"),
    (["--recipe", "absent.yaml"], 2, "cannot read absent.yaml"),
    (["--resume", "absent"], 2, "cannot change now"),
    (["extra"], 2, "extra"),
    (["--pretrained"], 2, "no published weights of 'cifar_resnet8'"),
]


@pytest.mark.parametrize(("flags", "code", "words"), BAD_REQUESTS, ids=[" ".join(case[0]) for case in BAD_REQUESTS])
def test_bad_request_is_one_line_and_writes_nothing(
    flags: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    quick: list[str],
    capsys: pytest.CaptureFixture[str],
    plain_cpu: None,
) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    given = [flag for flag in quick if not (flag in ("--model", "cifar_resnet8") and "--model" in flags)]
    if "--max-steps" in flags:
        given = [flag for flag in given if flag not in ("--max-steps", "2")]
    assert main(["train", str(path), "--device", "cpu", *given, *flags]) == code
    _check_error(capsys, words)
    assert not (tmp_path / "runs").exists()


def test_a_pickle_that_wants_to_run_code_is_refused(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    assert main(["train", str(path), *quick, "--weights", str(pickle_bomb(tmp_path))]) == 4
    _check_error(capsys, "wants to run code")
    assert not (tmp_path / "canary").exists()


def test_weights_of_another_network_are_refused(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    assert main(["train", str(path), *quick, "--name", "one"]) == 0
    said(capsys)
    changed = ["cifar_resnet14" if flag == "cifar_resnet8" else flag for flag in quick]
    file = str(tmp_path / "runs/one/best.safetensors")
    assert main(["train", str(path), *changed, "--weights", file]) == 4
    _check_error(capsys, "do not fit")


def test_B7_taken_folder(tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    assert main(["train", str(path), *quick, "--name", "one"]) == 0
    said(capsys)
    assert main(["train", str(path), *quick, "--name", "one"]) == 2
    _check_error(capsys, "is taken")


def test_missing_data_argument_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    _check_error(capsys, "DATA is missing")
    assert main(["trian", "digits"]) == 2
    _check_error(capsys, "trian")


def test_evaluate_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 4
    _check_error(capsys, "is not a run folder")
    assert main(["predict", str(tmp_path), "a.png"]) == 4
    _check_error(capsys, "holds no weights")
    assert main(["train", "--resume", str(tmp_path)]) == 4
    _check_error(capsys, "is not a run folder")


def test_D8_read_only_place(tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import os

    path = write_npz(tmp_path / "tiny.npz")
    place = tmp_path / "closed"
    place.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest's own, closed to others
        folder.chmod(folder.stat().st_mode | 0o055)
    place.chmod(0o555)
    is_root = os.geteuid() == 0  # whom permissions do not stop
    if is_root:
        os.seteuid(65534)
    try:
        flags = [str(place) if flag == str(tmp_path / "runs") else flag for flag in quick]
        assert main(["train", str(path), *flags]) == 6
        assert main(["train", str(path), *flags, "--name", "below"]) == 6
    finally:
        if is_root:
            os.seteuid(0)
    out, err = said(capsys)
    assert out == ""  # nothing was trained
    assert sum("no permission to write" in line for line in err) == 2
    assert list(place.iterdir()) == []


def test_zoo_and_own_network_take_a_step(tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path / "tiny.npz", size=16)
    own = tmp_path / "mine.py"
    own.write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, in_channels=3):\n"
        "        super().__init__(nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, num_classes))\n"
    )
    for model in (f"{own}:Net", "resnet18", "timm:resnet10t", "cnn"):
        changed = [model if flag == "cifar_resnet8" else flag for flag in quick]
        assert main(["train", str(path), *changed, "--batch-size", "8", "--size", "32"]) == 0, model
        run = said(capsys)[0].strip()
        assert main(["evaluate", run, "--json"]) == 0, model
        said(capsys)
        if model.endswith(":Net"):
            _own_class_needs_a_voucher(f"{run}/best.safetensors", model, tmp_path, capsys)


def _own_class_needs_a_voucher(file: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(tmp_path / "picture.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(picture)
    assert main(["predict", file, picture]) == 4  # D25: a file alone may not name code to run
    _check_error(capsys, "is not trusted that far")
    assert main(["predict", file, picture, "--model", model]) == 0
    said(capsys)


def test_predict_takes_flags_anywhere_and_folders(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set")
    assert main(["train", str(root), *quick, "--name", "one"]) == 0
    run = str(tmp_path / "runs/one")
    said(capsys)
    inside = sorted(map(str, (root / "val/down").iterdir()))
    (root / "val/down/notes.txt").write_text("no picture")
    assert main(["predict", run, "--json", "--top", "1", inside[0], str(root / "val/down")]) == 0
    rows = [json.loads(line) for line in said(capsys)[0].splitlines()]
    assert [row["image"] for row in rows] == [inside[0], *inside]
    for flags, words in ((["--top", "0", inside[0]], "top = 0"), ([], "no image was named")):
        assert main(["predict", run, *flags]) == 2
        _check_error(capsys, words)
    assert main(["report", "--out", str(tmp_path / "x.html")]) == 2
    _check_error(capsys, "no run was named")


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--weight-decay", "it is called --l2 here"),
        ("--learning_rate", "it is called --lr here"),
        ("--amp", "it is called --precision here"),
        ("--early-stopping", "it is called --patience here"),
        ("--epoch", "did you mean"),
    ],
)
def test_B1_flags_of_other_tools_are_known_by_name(flag: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", flag, "1"]) == 2
    _, err = said(capsys)
    assert hint in err[1].lower()


def test_F2_a_device_that_is_not_there(tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    absent = next(kind for kind in ("cuda", "xpu", "mps") if not getattr(torch, kind).is_available())
    assert main(["train", "digits", *quick, "--device", absent]) == 6
    _check_error(capsys, f"there is no {absent} device here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits", "--accumulate", "64"], "accumulate = 64 is more than the batch of 32 images"),
        (["train", "digits", "--batch-size", "1"], "batch_size = 1: cnn has batch normalisation"),
        (["demo", "--seed", "-1"], "seed = -1"),
        (["train", "digits", "--data.validation", "1.5"], "data.validation = '1.5'"),
    ],
)
def test_B3_B9_values_that_do_not_go_together(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    _check_error(capsys, message)
    assert not (tmp_path / "runs").exists()


def test_plan_looks_at_the_weights_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    assert main(["plan", str(path), "--model", "cifar_resnet8", "--freeze", "backbone"]) == 0
    assert "195 of" in said(capsys)[0]  # the head: 64 x 3 weights and 3 biases
    assert main(["plan", str(path), "--model", "resnet18", "--pretrained"]) == 0  # and without a network
    assert "weights: the published ones of resnet18, fetched when training begins" in said(capsys)[0]
    assert main(["plan", str(path), "--weights", str(tmp_path / "absent.pt")]) == 4
    _check_error(capsys, "there is no weight file")


def test_names_of_classes_are_text_in_tables(
    tmp_path: Path, quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set")
    for part in ("train", "val"):
        (root / part / "down").rename(root / part / "[bold]")
    assert main(["train", str(root), *quick, "--name", "one"]) == 0
    said(capsys)
    assert main(["evaluate", str(tmp_path / "runs/one")]) == 0
    out, err = said(capsys)
    assert "[bold]" in out
    assert err == ["on the validation part, 18 images"]
