"""Data sets in the formats of the Hugging Face hub, from a local folder, without a network."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halftone.base.errors import DataError, ResourceError, UnreadableImage
from halftone.data.config import DataConfig
from halftone.data.labelled import Parts
from halftone.data.open import open_source
from halftone.data.sources.hub import HubImages
from pictures import encoded, noise, write

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")  # what the package warns of is its own affair


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield
    datasets.enable_progress_bars()


def opened(name: Path | str, tmp_path: Path) -> Parts:
    return open_source(DataConfig(source=f"hf:{name}", root=tmp_path / "cache"))


def table(labels: list[int], *, names: tuple[str, ...] = ("ant", "bee", "cat"), column: str = "label") -> Any:
    images = [{"bytes": encoded(noise(4, 5, seed=number)), "path": None} for number in range(len(labels))]
    features = datasets.Features({"image": datasets.Image(), column: datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"image": images, column: labels}, features=features)


def served(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    """Let the hub have one data set, of these parts."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(parts))


def test_a_local_image_folder(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("train/cat/1.png", "train/dog/2.png", "train/dog/3.png", "test/cat/4.png", "test/dog/5.png"):
        write(root / name)
    parts = opened(root, tmp_path)
    assert parts.train.classes == ("cat", "dog")
    assert sorted(parts.train.labels.tolist()) == [0, 1, 1]
    assert parts.test is not None
    assert len(parts.test.labels) == 2
    assert parts.validation is None
    files = {path.read_bytes() for path in root.rglob("*.png")}
    ours = {part.content(index) for part in (parts.train, parts.test) for index in range(len(part.labels))}
    assert ours == files
    plain = open_source(DataConfig(source=str(root))).train
    by_content = {plain.content(index): plain.pixels(index) for index in range(3)}
    for index in range(3):
        assert (parts.train.pixels(index) == by_content[parts.train.content(index)]).all()
    assert parts.train.look(0)[:3] == (4, 4, False)
    assert parts.train.name(2) == "train-00002"


def test_images_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served(monkeypatch, train=table([0, 2, 1, 0], column="fine_label"), validation=table([1, 2]))
    parts = opened("owner/name", tmp_path)
    assert parts.train.labels.tolist() == [0, 2, 1, 0]
    assert (parts.train.pixels(2) == noise(4, 5, seed=2)).all()
    assert parts.train.array is None
    assert parts.validation is not None
    assert parts.validation.name(1) == "validation-00001"


def test_A30_parts_are_matched_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served(monkeypatch, train=table([0, 1, 2]), test=table([0, 1], names=("cat", "ant")))
    parts = opened("owner/name", tmp_path)
    assert parts.test is not None
    assert parts.test.labels.tolist() == [2, 0]
    assert (parts.test.pixels(1) == noise(4, 5, seed=1)).all()


def test_a_part_whose_labels_are_withheld_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served(monkeypatch, train=table([0, 1, 2]), test=table([-1, -1]))
    parts = opened("owner/name", tmp_path)
    assert parts.test is None
    assert parts.notes == ("the part test has no labels and is left out",)
    served(monkeypatch, train=table([0, -1, 2]))
    with pytest.raises(DataError, match="training part has the label -1"):
        opened("owner/name", tmp_path)


def test_a_set_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served(monkeypatch, train=datasets.Dataset.from_dict({"text": ["a"], "label": [1]}))
    with pytest.raises(DataError, match="hf:owner/name has the columns text, label, but no image and class label"):
        opened("owner/name", tmp_path)
    served(monkeypatch, test=table([0, 1]))
    with pytest.raises(DataError, match="hf:owner/name has the parts test, but none for training"):
        opened("owner/name", tmp_path)


def test_F8_a_set_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^hf:.*nothing cannot be had: ") as caught:
        opened(tmp_path / "nothing", tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_F6_without_the_package_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError) as caught:
        opened("owner/name", tmp_path)
    assert caught.value.hint == 'pip install "halftone[hub]"'


def test_A1_A6_cells_without_a_picture_are_unreadable_images(tmp_path: Path) -> None:
    cells = [
        None,
        {"bytes": b"", "path": None},
        {"bytes": b"text", "path": None},
        {"bytes": None, "path": str(tmp_path / "gone.png")},
    ]
    source = HubImages([{"image": cell} for cell in cells], "image", np.zeros(4, dtype=np.int64), ("a",), "train")
    for index, reason in enumerate(("no image there", "the file is empty", "not an image", "No such file")):
        with pytest.raises(UnreadableImage, match=reason):
            source.pixels(index)
        with pytest.raises(UnreadableImage, match=reason):
            source.look(index)
