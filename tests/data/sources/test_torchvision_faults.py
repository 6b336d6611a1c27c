"""The sets of torchvision where they are missing, damaged or out of reach."""

import sys
from pathlib import Path
from typing import Any

import pytest

from halftone.base.errors import DataError
from halftone.data.config import DataConfig
from halftone.data.labelled import Parts
from halftone.data.open import open_source
from halftone.data.sources.torchvision import KNOWN
from pictures import write


def opened(name: str, root: Path) -> Parts:
    return open_source(DataConfig(source=name, root=root))


@pytest.mark.parametrize("name", KNOWN)
def test_a_set_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(name, tmp_path)
    assert str(caught.value).startswith(f"{name} cannot be had from {tmp_path.resolve()}: ")
    assert "download=True" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.hint == "name its folder: --data.root DIR, or --data.download"
    assert list(tmp_path.iterdir()) == []


def test_F8_a_failed_download_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(DataError, match="mnist cannot be had from") as caught:
        open_source(DataConfig(source="mnist", root=tmp_path / "new", download=True))
    assert caught.value.hint == "check the network and try again"


def test_a_damaged_set_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        write(raw / name, b"\x00" * 7)
    with pytest.raises(DataError, match="mnist cannot be had from"):
        opened("mnist", tmp_path)


def test_the_default_place_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path / ".cache" / "halftone" / "data")):
        open_source(DataConfig(source="cifar10"))
    with pytest.raises(DataError, match=str(tmp_path / "sets")):
        opened("cifar10", Path("~/sets"))


def test_torchvision_is_imported_only_for_its_own_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "halftone.data.sources.torchvision")
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(open_source(DataConfig(source="digits")).train.labels) == 1797
    with pytest.raises(ImportError):
        open_source(DataConfig(source="cifar10"))
