"""Image folders, against torchvision's ImageFolder and every way in which a folder can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from halftone.base.errors import DataError
from halftone.data.config import DataConfig
from halftone.data.labelled import Parts
from halftone.data.open import open_source
from halftone.data.sources.folder import open_folder
from pictures import write
from samples import write_folder

LIMIT = 10**6


def opened(root: Path) -> Parts:
    return open_folder(root, max_pixels=LIMIT)


def refused(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=str(root)))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 3
    return caught.value


def tree(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name)
    return root


def test_it_agrees_with_torchvision(tmp_path: Path) -> None:
    root = write_folder(tmp_path, train=9, val=6)
    parts = opened(root)
    assert parts.validation is not None
    for part, theirs in ((parts.train, ImageFolder(root / "train")), (parts.validation, ImageFolder(root / "val"))):
        assert part.classes == tuple(theirs.classes)
        assert part.labels.tolist() == theirs.targets
        for index, (path, label) in enumerate(theirs.samples):
            assert root / part.name(index) == Path(path)
            assert part.labels[index] == label
            assert (part.pixels(index) == np.asarray(theirs[index][0])).all()
    assert parts.test is None
    assert parts.notes == ()


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "TEST"),
        ("training", "validation", "testing"),
        ("train", None, "test"),
        ("train", "val", None),
        ("train", None, None),
    ],
)
def test_the_names_of_the_parts(tmp_path: Path, train: str, validation: str | None, test: str | None) -> None:
    for part in filter(None, (train, validation, test)):
        tree(tmp_path / part, "cat/1.png", "dog/2.png")
    parts = opened(tmp_path)
    assert parts.train.name(0) == f"{train}/cat/1.png"
    for name, found in ((validation, parts.validation), (test, parts.test)):
        assert (found is None) == (name is None)
        if found is not None:
            assert found.name(1) == f"{name}/dog/2.png"


def test_class_folders_alone(tmp_path: Path) -> None:
    parts = opened(tree(tmp_path, "dog/1.png", "cat/2.png", "cat/deep/3.png", "notes.txt"))
    assert parts.train.classes == ("cat", "dog")
    assert [parts.train.name(index) for index in range(3)] == ["cat/2.png", "cat/deep/3.png", "dog/1.png"]
    assert parts.train.labels.tolist() == [0, 0, 1]
    assert parts.validation is parts.test is None


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert opened(tree(tmp_path, "train/1.png", "bus/2.png")).train.classes == ("bus", "train")


def test_parts_without_class_folders_are_not_taken_for_classes(tmp_path: Path) -> None:
    error = refused(tree(tmp_path, "train/1.png", "val/2.png"))
    assert str(error) == f"{tmp_path / 'train'} has no class folders"
    assert error.hint == "put the images of each class into a folder of its own"


def test_A25_hidden_and_system_folders_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/2.png", ".ipynb_checkpoints/3.png", "__MACOSX/cat/._1.png", "cat/.DS_Store")
    parts = opened(tmp_path)
    assert parts.train.classes == ("cat", "dog")
    assert len(parts.train.labels) == 2
    assert parts.notes == ()


def test_A21_a_link_back_to_the_root_brings_no_images_of_other_classes(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "cat" / "loop").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to("self")
    (tmp_path / "self").symlink_to("self")
    parts = opened(tmp_path)
    assert [parts.train.name(index) for index in range(2)] == ["cat/1.png", "dog/2.png"]
    assert len(parts.train.labels) == 2


def test_a_class_folder_may_be_a_link(tmp_path: Path) -> None:
    tree(tmp_path / "store", "a/1.png")
    tree(tmp_path / "set", "cat/2.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "store" / "a")
    assert opened(tmp_path / "set").train.classes == ("cat", "dog")


def test_files_that_are_no_images_are_noted(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/2.png", "dog/picture")
    for name in ("cat/a.txt", "cat/b.json", "dog/c.csv", "dog/d.md"):
        write(tmp_path / name, b"text")
    parts = opened(tmp_path)
    assert len(parts.train.labels) == 3
    assert parts.notes == ("left out 4 that are not images: cat/a.txt, cat/b.json, dog/c.csv and 1 more",)


def test_A20_an_unreadable_class_folder_stops(plain_user: Path) -> None:
    tree(plain_user, "cat/1.png", "dog/2.png", "dog/deep/3.png")
    (plain_user / "dog" / "deep").chmod(0)
    assert str(refused(plain_user)) == f"cannot read {plain_user}/dog/deep: Permission denied"
    (plain_user / "dog" / "deep").chmod(0o700)
    (plain_user / "dog").chmod(0)
    assert str(refused(plain_user)) == f"cannot read {plain_user}/dog: Permission denied"


def test_A20_an_unreadable_root_stops(plain_user: Path) -> None:
    root = tree(plain_user / "set", "cat/1.png", "dog/2.png")
    root.chmod(0)
    with pytest.raises(DataError, match=r"cannot read the folder .*: Permission denied"):
        opened(root)
    root.chmod(0o700)


def test_A27_an_empty_class_folder_is_named_and_shifts_no_numbers(tmp_path: Path) -> None:
    for part in ("train", "val"):
        tree(tmp_path / part, "ant/1.png", "cat/2.png")
    (tmp_path / "val" / "bee").mkdir()
    assert "has classes that training does not: bee" in str(refused(tmp_path))
    (tmp_path / "train" / "bee").mkdir()
    error = refused(tmp_path)
    assert str(error) == f"the class folder {tmp_path / 'train' / 'bee'} holds no images"
    assert error.hint == "fill it or remove it"
    write(tmp_path / "train" / "bee" / "3.png")
    parts = opened(tmp_path)
    assert parts.validation is not None
    assert parts.validation.labels.tolist() == [0, 2]
    assert parts.notes == ("val has no images of bee",)


def test_A28_one_class_is_too_few_to_train_but_enough_to_look_at(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "cat/2.png")
    error = refused(tmp_path)
    assert str(error) == f"{tmp_path} has images of one class only, cat; a classifier needs at least two"
    assert error.hint
    assert open_source(DataConfig(source=str(tmp_path)), least_classes=1).train.classes == ("cat",)


def test_A29_a_class_absent_from_validation_is_noted(tmp_path: Path) -> None:
    tree(tmp_path / "train", "ant/1.png", "bee/2.png", "cat/3.png")
    tree(tmp_path / "val", "cat/4.png", "ant/5.png")
    parts = opened(tmp_path)
    assert parts.validation is not None
    assert parts.validation.classes == ("ant", "bee", "cat")
    assert parts.validation.labels.tolist() == [0, 2]
    assert parts.notes == ("val has no images of bee",)


def test_A29_validation_without_any_image_stops(tmp_path: Path) -> None:
    tree(tmp_path / "train", "ant/1.png", "bee/2.png")
    (tmp_path / "val" / "ant").mkdir(parents=True)
    assert str(refused(tmp_path)) == "the validation part has no images"


def test_A30_a_class_that_training_does_not_know_stops_with_both_lists(tmp_path: Path) -> None:
    tree(tmp_path / "train", "ant/1.png", "beetle/2.png")
    tree(tmp_path / "val", "ant/3.png", "bettle/4.png")
    error = refused(tmp_path)
    assert "val has classes that training does not: bettle (training has ant, beetle)" in str(error)
    assert error.hint == "did you mean 'beetle'?"


def test_A23_class_names_are_compared_as_people_read_them(tmp_path: Path) -> None:
    tree(tmp_path / "train", "caf\u00e9/1.png", "日本/2.png", "-x/3.png")
    tree(tmp_path / "val", "cafe\u0301/4.png", "日本/5.png", "-x/6.png")
    parts = open_source(DataConfig(source=str(tmp_path)))
    assert parts.train.classes == ("-x", "caf\u00e9", "日本")
    assert parts.validation is not None
    assert parts.validation.labels.tolist() == [0, 1, 2]
    assert parts.validation.pixels(1).shape == (4, 4, 3)


def test_A24_class_names_that_are_no_text(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/bad\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes text only")
    tree(tmp_path, "bad\udcff/1.png", "cat/2.png")
    assert opened(tmp_path).train.classes == (r"bad\udcff", "cat")
    Path(os.fsdecode(bytes(tmp_path) + b"/empty\xff")).mkdir()
    assert r"empty\udcff holds no images" in str(refused(tmp_path))


def test_the_set_can_be_moved(tmp_path: Path) -> None:
    tree(tmp_path / "here", "cat/1.png", "dog/2.png")
    before = opened(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    after = opened(tmp_path / "there")
    assert [after.train.name(index) for index in range(2)] == [before.train.name(index) for index in range(2)]


def test_an_empty_folder_and_a_folder_of_files(tmp_path: Path) -> None:
    assert str(refused(tmp_path)) == f"{tmp_path} has no class folders"
    assert str(refused(tree(tmp_path, "1.png"))) == f"{tmp_path} has no class folders"


def test_a_test_part_without_classes_is_left_out_and_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    (root / "test").mkdir()
    (root / "test" / "1.png").write_bytes(next((root / "val/down").iterdir()).read_bytes())
    parts = open_source(DataConfig(source=str(root)))
    assert parts.test is None
    assert any("left out test/" in note for note in parts.notes)


def test_runs_beside_the_classes_are_no_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set") / "train"
    run = root / "runs" / "train-cnn-1"
    run.mkdir(parents=True)
    (run / "plan.yaml").write_text("halftone: 0.1.0\n")
    (run / "results.png").write_bytes(next((root / "down").iterdir()).read_bytes())
    assert open_source(DataConfig(source=str(root))).train.classes == ("across", "aslant", "down")
