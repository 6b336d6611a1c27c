"""From a name to a source of images, and what can be asked of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halftone.base.errors import DataError, RecipeError
from halftone.data.config import AugmentConfig, DataConfig
from halftone.data.fingerprint import fingerprint
from halftone.data.labelled import Parts
from halftone.data.open import open_source, settled_source
from halftone.data.sources.arrays import from_arrays
from pictures import noise, write
from samples import write_folder


def refused(source: str, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=source, **options))
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("given", "no data was named", "name a folder"),
        ("digit", "there is no data 'digit': it is no file or folder, and no known name", "did you mean 'digits'?"),
        ("cifar-10", "there is no data 'cifar-10'", "did you mean 'cifar10'?"),
        ("fashionmnist", "there is no data 'fashionmnist'", "did you mean 'fashion-mnist'?"),
        ("no/such/folder", "there is no data 'no/such/folder'", "`halftone train --help` says what DATA can be"),
        ("", "no data was named", "name a folder"),
    ],
)
def test_a_name_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(source)
    assert message in str(error)
    assert hint in error.hint


def test_a_file_that_is_no_data(tmp_path: Path) -> None:
    assert "is a file, but neither .csv nor .npz" in str(refused(str(write(tmp_path / "cat.jpg"))))


def test_B10_the_home_folder_and_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "my photos", train=6, val=3)
    assert len(open_source(DataConfig(source="~/my photos")).train.labels) == 6
    monkeypatch.chdir(tmp_path)
    relative = open_source(DataConfig(source="my photos")).train
    monkeypatch.chdir("/")
    assert relative.pixels(0).shape == (20, 20, 3)


def test_A16_the_largest_picture_can_be_set(tmp_path: Path) -> None:
    for name, side in (("cat/1.png", 30), ("dog/2.png", 20)):
        write(tmp_path / name, noise(side, side))
    source = open_source(DataConfig(source=str(tmp_path), max_megapixels=0.0005)).train
    with pytest.raises(DataError, match=r"30 x 30 pixels are more than the limit of 0\.0005 megapixels"):
        source.pixels(0)
    assert source.pixels(1).shape == (20, 20, 3)


def test_A35_the_fingerprint_of_a_folder_knows_names_and_sizes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a", train=6, val=3)

    def mark() -> str:
        return fingerprint(open_source(DataConfig(source=str(root))))

    before = mark()
    (tmp_path / "a").rename(tmp_path / "b")
    root = tmp_path / "b"
    assert mark() == before
    file = next(root.rglob("*.png"))
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    changed = mark()
    file.write_bytes(content)
    assert mark() == before
    file.rename(file.with_name("renamed.png"))
    assert len({before, changed, mark()}) == 3
    gone = open_source(DataConfig(source=str(root)))
    file.with_name("renamed.png").unlink()
    assert fingerprint(gone) != mark()


def test_real_photos(shared_data: Path) -> None:
    parts: Parts = open_source(DataConfig(source=str(shared_data / "photos")))
    assert len(parts.train.classes) == 10
    assert parts.validation is not None
    assert (len(parts.train.labels), len(parts.validation.labels)) == (645, 177)
    assert np.bincount(parts.validation.labels, minlength=10).min() > 0
    assert parts.train.pixels(0).shape == (*parts.train.look(0)[:2], 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation": 0}, "data.validation = 0: it must be greater than 0, or 'auto'"),
        ({"validation": 1}, "data.validation = 1: it must be less than 1, or 'auto'"),
        ({"size": 0}, "data.size = 0: "),
        ({"size": 100_000}, "data.size = 100000: "),
        ({"channels": 2}, "data.channels = 2: it must be 1 or 3, or 'auto'"),
        ({"workers": -1}, "data.workers = -1: "),
        ({"max_bad": 2}, "data.max_bad = 2: "),
        ({"max_megapixels": 0}, "data.max_megapixels = 0: "),
        ({"max_megapixels": float("inf")}, "data.max_megapixels = inf: "),
        ({"split_seed": -1}, "data.split_seed = -1: "),
        ({"split_seed": 2**70}, "data.split_seed = "),
        ({"on_error": "ignore"}, "data.on_error = 'ignore': it must be 'skip' or 'fail'"),
        ({"sourse": "digits"}, "unknown setting 'data.sourse'"),
    ],
)
def test_B3_values_out_of_range(values: dict[str, Any], message: str) -> None:
    from halftone.base.records import Record

    class Whole(Record):
        data: DataConfig = DataConfig()

    with pytest.raises(RecipeError) as caught:
        Whole.parse({"data": values})
    assert str(caught.value).startswith(message)
    assert Whole.parse({"data": "digits"}).data.source == "digits"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.35,1", (0.35, 1.0)), ([0.2, 0.5], (0.2, 0.5)), ((1, 1), (1.0, 1.0)), ("auto", "auto"), ("none", "none")],
)
def test_ranges_of_area(value: Any, expected: Any) -> None:
    config = AugmentConfig(resized_crop=value)
    assert config.resized_crop == expected
    assert AugmentConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("value", ["1,0.5", "0,1", "0.5", "0.5,2", "a,b", [1], 3, (float("nan"), 1), "0.1,0.2,0.3"])
def test_B3_ranges_that_are_none(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"resized_crop = .*two numbers such as 0.35,1 .*, or 'none', or 'auto'"):
        AugmentConfig.parse({"resized_crop": value})


@pytest.mark.parametrize(
    "values", [{"flip": 1.5}, {"hue": 0.6}, {"rotate": 200}, {"mixup": -1}, {"erase": float("nan")}]
)
def test_B3_augmentation_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"^{next(iter(values))} = "):
        AugmentConfig.parse(values)


def test_a_source_means_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "photos", "EuroSAT"):
        (tmp_path / name).mkdir()
    assert settled_source("digits") == "digits"
    assert settled_source("EuroSAT") == "EuroSAT"  # a known name, in any case
    assert settled_source("photos") == str(tmp_path / "photos")
    assert settled_source("hf:photos") == f"hf:{tmp_path / 'photos'}"
    assert settled_source("hf:owner/name") == "hf:owner/name"
    assert settled_source("absent") == "absent"


def test_classes_of_one_name_are_refused() -> None:
    images, labels = np.zeros((4, 4, 4, 3), dtype=np.uint8), np.array([0, 1, 2, 0])
    given = Parts(from_arrays(images, labels, ("cat", "dog", "cat")))
    with pytest.raises(DataError, match="several classes are called cat"):
        open_source(DataConfig(), given)
