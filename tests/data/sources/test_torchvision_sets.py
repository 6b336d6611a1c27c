"""The sets that torchvision knows by name, each in its own layout on disk, small. torchvision itself is the oracle."""

import bz2
import gzip
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled, Parts
from halftone.data.open import open_source
from pictures import noise, write

TRAIN, TEST = 5, 4


def opened(name: str, root: Path) -> Parts:
    return open_source(DataConfig(source=name, root=root))


def same(source: Labelled | None, theirs: Any) -> None:
    """Compare labels and pixels with a data set of torchvision, image by image."""
    assert source is not None
    assert len(source.labels) == len(theirs)
    for index in range(len(theirs)):
        image, label = theirs[index]
        pixels = source.pixels(index)
        assert source.labels[index] == label
        assert (pixels == np.asarray(image).reshape(*pixels.shape[:2], -1)).all()


def trust(monkeypatch: pytest.MonkeyPatch, kind: Any, *names: str) -> None:
    """Let our small files pass for the real ones."""
    for name in names:
        monkeypatch.setattr(kind, name, lambda *_: True)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = datasets.CIFAR100 if name == "cifar100" else datasets.CIFAR10
    trust(monkeypatch, kind, "_check_integrity")
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    classes = [f"class {number}" for number in range(3)]
    for number, (file, _) in enumerate(kind.train_list + kind.test_list):
        labels = [0, 1, 2, 1]
        content = {"data": noise(4, 3072, 1, seed=number)[:, :, 0], "labels": labels, "fine_labels": labels}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: classes}))
    parts = opened(name, tmp_path)
    same(parts.train, kind(tmp_path, train=True))
    same(parts.test, kind(tmp_path, train=False))
    assert parts.train.classes == tuple(classes)
    assert parts.train.array is not None
    assert parts.train.array.shape[1:] == (32, 32, 3)
    assert parts.validation is None


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "emnist"])
def test_sets_in_the_format_of_mnist(tmp_path: Path, name: str) -> None:
    kind = {
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
        "kmnist": datasets.KMNIST,
        "emnist": datasets.EMNIST,
    }[name]
    raw = tmp_path / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    prefixes = ("emnist-balanced-train", "emnist-balanced-test") if name == "emnist" else ("train", "t10k")
    for prefix, count in zip(prefixes, (TRAIN, TEST), strict=True):
        images = noise(count, 28 * 28, 1, seed=count)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes())
        labels = bytes(range(1, count + 1))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)
    options = {"split": "balanced"} if name == "emnist" else {}
    parts = opened(name, tmp_path)
    same(parts.train, kind(tmp_path, train=True, **options))
    same(parts.test, kind(tmp_path, train=False, **options))
    assert len(parts.train.classes) == (47 if name == "emnist" else 10)
    assert parts.train.look(0)[:3] == (28, 28, True)


def test_fashion_mnist_itself(shared_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    for packed in (shared_data / "fashion-mnist" / "FashionMNIST" / "raw").glob("t10k*.gz"):
        content = gzip.decompress(packed.read_bytes())
        write(raw / packed.stem, content)
        write(raw / packed.stem.replace("t10k", "train"), content)  # the larger part takes longer and says no more
    parts = opened("fashion-mnist", tmp_path)
    theirs = datasets.FashionMNIST(tmp_path, train=False)
    assert parts.test is not None
    assert parts.test.array is not None
    assert (parts.test.array[..., 0] == theirs.data.numpy()).all()
    assert (parts.test.labels == theirs.targets.numpy()).all()
    assert parts.train.classes == tuple(datasets.FashionMNIST.classes)
    assert np.bincount(parts.train.labels).tolist() == [1000] * 10


def test_usps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.usps.check_integrity", lambda *_: True, raising=False)
    for part, count in (("train", TRAIN), ("test", TEST)):
        values = noise(count, 256, 1, seed=count)[:, :, 0] / 127.5 - 1
        lines = [
            f"{number % 3 + 1} " + " ".join(f"{place}:{value:.4f}" for place, value in enumerate(row, 1))
            for number, row in enumerate(values)
        ]
        (tmp_path / datasets.USPS.split_list[part][1]).write_bytes(bz2.compress("\n".join(lines).encode()))
    parts = opened("usps", tmp_path)
    same(parts.train, datasets.USPS(tmp_path, train=True))
    same(parts.test, datasets.USPS(tmp_path, train=False))
    assert parts.train.classes == ("0", "1", "2")


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, datasets.SVHN, "_check_integrity")
    for part, labels in (("train", [1, 2, 3, 10]), ("test", [10, 1, 2])):
        images = noise(32 * 32, 3 * len(labels), 1).reshape(32, 32, 3, len(labels))
        savemat(tmp_path / datasets.SVHN.split_list[part][1], {"X": images, "y": np.array(labels)[:, None]})
    parts = opened("svhn", tmp_path)
    same(parts.train, datasets.SVHN(tmp_path, split="train"))
    same(parts.test, datasets.SVHN(tmp_path, split="test"))
    assert parts.train.classes == parts.test.classes == tuple("0123")


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, datasets.STL10, "_check_integrity")
    folder = tmp_path / datasets.STL10.base_folder
    folder.mkdir()
    for part, count in (("train", 3), ("test", 2)):
        (folder / f"{part}_X.bin").write_bytes(noise(count, 3 * 96 * 96, 1, seed=count).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes(range(1, count + 1)))
    (folder / datasets.STL10.class_names_file).write_text("airplane\nbird\ncar\n")
    parts = opened("stl10", tmp_path)
    same(parts.train, datasets.STL10(tmp_path, split="train"))
    same(parts.test, datasets.STL10(tmp_path, split="test"))
    assert parts.train.classes == ("airplane", "bird", "car")


def lay_flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, datasets.Flowers102, "_check_integrity")
    base = root / "flowers-102"
    for number in range(1, 7):
        write(base / "jpg" / f"image_{number:05d}.jpg")
    savemat(base / "setid.mat", {"trnid": [1, 4, 6], "valid": [2, 3], "tstid": [5, 1]})
    savemat(base / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 102]})


def lay_dtd(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "dtd" / "dtd"
    for name in ("banded/1.jpg", "banded/2.jpg", "zigzagged/3.jpg", "zigzagged/4.jpg"):
        write(base / "images" / name)
    (base / "labels").mkdir()
    (base / "labels" / "train1.txt").write_text("banded/1.jpg\nzigzagged/3.jpg\n")
    (base / "labels" / "val1.txt").write_text("zigzagged/4.jpg\n")
    (base / "labels" / "test1.txt").write_text("banded/2.jpg\nzigzagged/4.jpg\n")


def lay_aircraft(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "fgvc-aircraft-2013b" / "data"
    for number in range(4):
        write(base / "images" / f"{number}.jpg")
    (base / "variants.txt").write_text("707-320\nA 300\n")
    for part, lines in {"train": "0 707-320\n1 A 300\n", "val": "2 A 300\n", "test": "3 707-320\n"}.items():
        (base / f"images_variant_{part}.txt").write_text(lines)


def lay_country(root: Path, _: pytest.MonkeyPatch) -> None:
    for part in ("train", "valid", "test"):
        for name in ("AD/1.jpg", "ZW/2.jpg"):
            write(root / "country211" / part / name)


def lay_food(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "food-101"
    for name in ("waffles/1", "waffles/2", "sushi/3", "sushi/4"):
        write(base / "images" / f"{name}.jpg")
    (base / "meta").mkdir()
    (base / "meta" / "train.json").write_text(json.dumps({"waffles": ["waffles/1"], "sushi": ["sushi/3"]}))
    (base / "meta" / "test.json").write_text(json.dumps({"waffles": ["waffles/2"], "sushi": ["sushi/4"]}))


def lay_imagenette(root: Path, _: pytest.MonkeyPatch) -> None:
    for part in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            write(root / "imagenette2" / part / wnid / f"{part}.JPEG")


FILE_SETS: dict[str, tuple[Any, Callable[..., None], str | None, str | None, tuple[str, ...]]] = {
    "flowers102": (datasets.Flowers102, lay_flowers, "val", "test", ("pink primrose", "hard-leaved pocket orchid")),
    "dtd": (datasets.DTD, lay_dtd, "val", "test", ("banded", "zigzagged")),
    "fgvc-aircraft": (datasets.FGVCAircraft, lay_aircraft, "val", "test", ("707-320", "A 300")),
    "country211": (datasets.Country211, lay_country, "valid", "test", ("AD", "ZW")),
    "food101": (datasets.Food101, lay_food, None, "test", ("sushi", "waffles")),
    "imagenette": (datasets.Imagenette, lay_imagenette, "val", None, ("tench", "English springer")),
}


@pytest.mark.parametrize("name", FILE_SETS)
def test_sets_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind, lay, validation, test, classes = FILE_SETS[name]
    lay(tmp_path, monkeypatch)
    parts = opened(name, tmp_path)
    same(parts.train, kind(tmp_path, split="train"))
    assert parts.train.classes[: len(classes)] == classes
    assert parts.train.classes[-1] != ""
    assert not Path(parts.train.name(0)).is_absolute()
    for part, split in ((parts.validation, validation), (parts.test, test)):
        if split is None:
            assert part is None
        elif name != "dtd" or split == "test":
            same(part, kind(tmp_path, split=split))


def test_a_part_that_lacks_a_class_is_matched_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_dtd(tmp_path, monkeypatch)
    assert datasets.DTD(tmp_path, split="val")[0][1] == 0  # torchvision numbers each part for itself
    parts = opened("dtd", tmp_path)
    assert parts.validation is not None
    assert [parts.validation.classes[label] for label in parts.validation.labels] == ["zigzagged"]
    assert parts.validation.labels.tolist() == [1]


def test_oxford_pets(tmp_path: Path) -> None:
    base = tmp_path / "oxford-iiit-pet"
    rows = {"trainval": ["great_dane_1 1", "Abyssinian_2 2"], "test": ["Abyssinian_3 2", "great_dane_4 1"]}
    (base / "annotations").mkdir(parents=True)
    for part, lines in rows.items():
        (base / "annotations" / f"{part}.txt").write_text("".join(f"{line} 1 1\n" for line in lines))
        for line in lines:
            write(base / "images" / f"{line.split()[0]}.jpg")
    parts = opened("oxford-pets", tmp_path)
    same(parts.train, datasets.OxfordIIITPet(tmp_path, split="trainval"))
    same(parts.test, datasets.OxfordIIITPet(tmp_path, split="test"))
    assert parts.train.classes == ("Great Dane", "Abyssinian")


def test_eurosat(tmp_path: Path) -> None:
    for name in ("Forest/1.jpg", "River/2.jpg", "River/3.jpg"):
        write(tmp_path / "eurosat" / "2750" / name)
    parts = opened("EuroSAT", tmp_path)
    same(parts.train, datasets.EuroSAT(tmp_path))
    assert parts.train.classes == ("Forest", "River")
    assert parts.validation is parts.test is None
