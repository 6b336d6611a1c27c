"""check-data as it is typed: what it says, what it writes, how it ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halftone.cli.main import main
from halftone.verbs import train
from pictures import encoded, noise, write
from samples import stripes, wish, write_folder


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    out, err = capsys.readouterr()
    return out, err.splitlines()


def write_set(root: Path) -> Path:
    """Two parts of two classes, of pictures that are not alike."""
    for number in range(16):
        part, label = ("train", "val")[number % 4 == 3], "ab"[number % 2 if number % 4 != 3 else number // 4 % 2]
        write(root / part / label / f"{number:02d}.png", noise(20, 20, seed=number))
    return root


def test_a_sound_set_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set")
    assert main(["check-data", str(root), "--strict", "--report", str(tmp_path / "page.html")]) == 0
    out, err = said(capsys)
    assert "train: 12 images, 0 of them gray, 20 to 20 pixels wide" in out
    assert "12 PNG, 12 RGB" in out
    assert err == [f"page: {tmp_path / 'page.html'}", "no problems"]
    assert "no problems" in (tmp_path / "page.html").read_text("utf-8")


def test_A1_A31_A32_all_that_is_wrong_is_told_to_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_set(tmp_path / "set")
    first = Image.open(root / "train/a/00.png")
    write(root / "val/a/equal.png", encoded(first, "PNG", optimize=True))
    first.resize((40, 40), Image.Resampling.NEAREST).convert("L").save(root / "val/b/alike.png")
    write(root / "train/b/again.webp", encoded(Image.open(root / "train/a/02.png"), "WEBP", lossless=True))
    write(root / "train/a/empty.jpg", b"")
    (root / "train/b/gone.png").symlink_to("nowhere")
    assert main(["check-data", str(root), "--strict"]) == 3
    out, err = said(capsys)
    for line in (
        "  unreadable: train/a/empty.jpg: the file is empty",
        "left out: train/b/gone.png: a link to nowhere, which is not there",
        "in two parts: train/a/00.png = val/a/equal.png",
        "under two labels: train/a/02.png = train/b/again.webp",
        "2 of 6 validation images (33.3%) have a copy in another part: what is measured on them is too good",
    ):
        assert line in out.splitlines(), line
    assert "in two parts and under two labels: train/a/00.png ~ val/b/alike.png (alike, " in out
    assert err == ["6 problems"]
    assert main(["check-data", str(root), "--json"]) == 0
    found = json.loads(said(capsys)[0])
    assert (found["problems"], found["leaks"], found["contradictions"]) == (6, 2, 2)
    assert found["left_out"] == [{"name": "train/b/gone.png", "reason": "a link to nowhere, which is not there"}]
    train_part, held = found["parts"]
    assert train_part["unreadable"] == [{"name": "train/a/empty.jpg", "reason": "the file is empty"}]
    assert train_part["formats"] == {"PNG": 12, "WEBP": 1}
    assert held["modes"] == {"RGB": 5, "L": 1}
    assert held["sizes"]["width"] == {"least": 20, "median": 20, "most": 40}
    assert (train_part["leaked"], held["leaked"]) == (1, 2)
    kinds = {tuple(group["names"]): group["kind"] for group in found["copies"]}
    assert kinds == {
        ("train/a/00.png", "val/a/equal.png"): "equal",
        ("train/a/02.png", "train/b/again.webp"): "equal",
        ("train/a/00.png", "val/b/alike.png"): "alike",
    }
    assert main(["check-data", str(root), "--json", "--no-look-alikes"]) == 0
    assert {group["kind"] for group in json.loads(said(capsys)[0])["copies"]} == {"equal"}


def test_A24_names_that_are_no_text_reach_json_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "set")
    odd = bytes(root / "train/a") + b"/\xff\n.png"
    Path(odd.decode("utf-8", "surrogateescape")).write_bytes((root / "val/a/03.png").read_bytes())
    assert main(["check-data", str(root), "--json", "--report", str(tmp_path / "page.html")]) == 0
    found = json.loads(said(capsys)[0])
    assert found["copies"][0]["names"] == ["train/a/\udcff\n.png", "val/a/03.png"]
    assert r"train/a/\udcff\n.png" in (tmp_path / "page.html").read_text("utf-8")


def test_labels_are_judged_by_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = stripes(240, size=12, seed=1)
    wrong = [0, 31, 62, 93, 124, 155]
    labels[wrong] = (labels[wrong] + 1) % 3
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels)
    run = train(wish(tmp_path / "set.npz", tmp_path, epochs=3, lr=0.1)).path
    asked = ["check-data", str(tmp_path / "set.npz"), "--run", str(run), "--no-look-alikes"]
    assert main([*asked, "--strict", "--report", str(tmp_path / "page.html")]) == 0  # suggestions are no problems
    out, _ = said(capsys)
    assert "labels of train: " in out and "labels of validation: " in out
    assert "it was trained on these images and may have learned wrong labels by heart" in out
    assert main([*asked, "--json"]) == 0
    parts = json.loads(said(capsys)[0])["labels"]
    assert [(part["part"], part["trained_on"]) for part in parts] == [("train", "yes"), ("validation", "no")]
    named = {error["name"]: error for part in parts for error in part["errors"]}
    found = {f"train-{number:05d}" for number in wrong} & named.keys()
    assert len(found) >= 4 and len(named) <= 8
    for name in found:
        true = str(stripes(240, size=12, seed=1)[1][int(name[-5:])])
        assert named[name]["suggested"] == true
        assert f"  {name}: {named[name]['given']} (" in out
        assert name in (tmp_path / "page.html").read_text("utf-8")


def test_what_cannot_be_done_is_said_before_the_long_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(write_folder(tmp_path / "set", train=6, val=3))
    for flags, code, words in (
        (["--run", str(tmp_path)], 4, "is not a run folder"),
        (["--report", str(tmp_path / "no/page.html")], 2, "there is no folder"),
        (["--data.timeout", "-1"], 2, "timeout"),
        (["--data.max-megapixels", "0"], 2, "max_megapixels"),
    ):
        assert main(["check-data", root, *flags]) == code
        out, err = said(capsys)
        assert out == "" and err[0].startswith("error: ") and words in err[0]
