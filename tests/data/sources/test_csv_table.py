"""Tables of image files: A33 of the catalogue of faults, row by row."""

from pathlib import Path

import pytest

from halftone.base.errors import DataError
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled, Parts
from halftone.data.open import open_source
from pictures import write

FILES = ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        write(tmp_path / "set" / name)
    return tmp_path / "set"


def opened(root: Path, text: str | bytes, images: Path | None = None) -> Parts:
    path = root / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_source(DataConfig(source=str(path), root=images))


def refused(root: Path, text: str | bytes, images: Path | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(root, text, images)
    assert str(root / "labels.csv") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def listing(source: Labelled | None) -> dict[str, str]:
    assert source is not None
    return {source.name(index): source.classes[label] for index, label in enumerate(source.labels)}


def test_paths_and_labels(root: Path) -> None:
    parts = opened(root, "path,label\ncat/1.png,cat\ndog/3.png,dog\ncat/2.png,cat\n")
    assert listing(parts.train) == {"cat/1.png": "cat", "dog/3.png": "dog", "cat/2.png": "cat"}
    assert parts.train.classes == ("cat", "dog")
    assert parts.validation is parts.test is None
    assert parts.train.pixels(1).shape == (4, 4, 3)


def test_splits(root: Path) -> None:
    text = "label,split,path\ncat,train,cat/1.png\ndog,,dog/3.png\ndog,VAL,dog/4.png\ncat,test,cat/2.png\n"
    parts = opened(root, text)
    assert listing(parts.train) == {"cat/1.png": "cat", "dog/3.png": "dog"}
    assert listing(parts.validation) == {"dog/4.png": "dog"}
    assert listing(parts.test) == {"cat/2.png": "cat"}
    assert parts.test is not None
    assert parts.test.labels.tolist() == [0]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,label\ncat/1.png,cat\ndog/3.png,dog\n",
        b"path,label\r\ncat/1.png,cat\r\ndog/3.png,dog\r\n",
        b"path,label\rcat/1.png,cat\rdog/3.png,dog\r",
        b"path,label\n\ncat/1.png,cat\n\n\ndog/3.png,dog",
        b'"path","label"\n"cat/1.png","cat"\n"dog/3.png","dog"\n',
        b" Path , LABEL ,comment\n cat/1.png , cat ,a\n./dog/3.png,dog,b\n",
    ],
)
def test_A33_what_spreadsheets_write_is_read(root: Path, text: bytes) -> None:
    assert listing(opened(root, text).train) == {"cat/1.png": "cat", "dog/3.png": "dog"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("gone.png,cat", "row 4: there is no file"),
        ("cat,cat", "row 4: there is no file"),
        ("a\0b.png,cat", "row 4: there is no file"),
        ("cat/1.png,dog", "row 4: cat/1.png stands there twice, first in row 2"),
        ("./cat/../cat/1.png,cat", "row 4: ./cat/../cat/1.png stands there twice, first in row 2"),
        ("cat/2.png,", "row 4: it needs a path and a label"),
        (",cat", "row 4: it needs a path and a label"),
        ("cat/2.png", "row 4: it needs a path and a label"),
        ("cat/2.png,cat,train,more", "row 4: it needs a path and a label, and no further fields"),
        ("cat/2.png,cat,trian", "row 4: split = 'trian': it must be train, val or test"),
        ("cat/2.png,cow,val", "row 4: no training row has the label 'cow' (they have cat, dog)"),
        ("../outside.png,cat", "row 4: ../outside.png lies outside of"),
        ("cat/../../outside.png,cat", "row 4: cat/../../outside.png lies outside of"),
        ("/etc/passwd,cat", "row 4: /etc/passwd lies outside of"),
        ("..,cat", "row 4: .. lies outside of"),
        ("\ncat/2.png,cat,trian", "row 5: split"),
    ],
)
def test_A33_a_fault_is_named_with_its_row(root: Path, rows: str, message: str) -> None:
    write(root.parent / "outside.png")
    error = refused(root, f"path,label,split\ncat/1.png,cat\ndog/3.png,dog\n{rows}\n")
    assert message in str(error)


def test_A33_an_unknown_label_suggests_the_nearest(root: Path) -> None:
    error = refused(root, "path,label,split\ncat/1.png,cat,train\ndog/3.png,dog,train\ndog/4.png,dgo,val\n")
    assert error.hint == "did you mean 'dog'?"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (b"", "has the columns none", "path,label"),
        (b"path;label\ncat/1.png;cat\n", "has the columns path;label", "with a comma between them"),
        (b"file,class\ncat/1.png,cat\n", "has the columns file, class", "path,label"),
        (b"path,label\n", "has no rows", ""),
        (b"path,label,split\ncat/1.png,cat,val\n", "has no rows for training", ""),
        ("path,label\ncat/1.png,é\n".encode("utf-16"), "is not UTF-8 text", "save it as CSV UTF-8"),
        ("path,label\ncat/1.png,é\n".encode("latin-1"), "is not UTF-8 text", "save it as CSV UTF-8"),
        (b'path,label\ncat/1.png,"cat\ndog/3.png,dog\n', "unexpected end of data", ""),
        (b"path,label\n" + b"x" * 200_000 + b",cat\n", "field larger than field limit", ""),
        (b"path,label\ncat/1.png,cat\n", "has images of one class only, cat", ""),
    ],
)
def test_A33_a_table_of_another_form_is_refused(root: Path, text: bytes, message: str, hint: str) -> None:
    error = refused(root, text)
    assert message in str(error)
    assert hint in error.hint


def test_paths_start_from_the_root_that_is_named(root: Path) -> None:
    table = root.parent / "tables"
    table.mkdir()
    text = "path,label\ncat/1.png,cat\ndog/3.png,dog\n"
    assert "there is no file" in str(refused(table, text))
    assert listing(opened(table, text, root).train) == {"cat/1.png": "cat", "dog/3.png": "dog"}
    absolute = f"path,label\n{root}/cat/1.png,cat\n{root}/dog/3.png,dog\n"
    assert listing(opened(table, absolute, root).train) == {"cat/1.png": "cat", "dog/3.png": "dog"}
    assert "lies outside of" in str(refused(table, absolute))


def test_B10_a_root_in_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    text = "path,label\ncat/1.png,cat\ndog/3.png,dog\n"
    (root.parent / "tables").mkdir()
    assert opened(root.parent / "tables", text, Path("~/set")).train.pixels(0).shape == (4, 4, 3)


def test_links_to_a_store_elsewhere_are_followed(root: Path) -> None:
    (root / "linked.png").symlink_to(write(root.parent / "store" / "blob.png"))
    parts = opened(root, "path,label\nlinked.png,cat\ndog/3.png,dog\n")
    assert parts.train.pixels(0).shape == (4, 4, 3)


def test_A20_a_table_without_permission(plain_user: Path) -> None:
    path = plain_user / "labels.csv"
    path.write_text("path,label\n")
    path.chmod(0)
    with pytest.raises(DataError, match=r"cannot read .*labels\.csv: Permission denied"):
        open_source(DataConfig(source=str(path)))


def test_A23_awkward_names(root: Path) -> None:
    for name in ("a,b.png", 'say "x".png', "🌸.png", "new\nline.png"):
        write(root / name)
    text = 'path,label\n"a,b.png",cat\n"say ""x"".png",dog\n🌸.png,cat\n"new\nline.png",dog\ngone.png,cat\n'
    assert "row 7: there is no file" in str(refused(root, text))
    source = opened(root, text.replace("gone.png,cat\n", "")).train
    assert [source.name(index) for index in range(4)] == ["a,b.png", 'say "x".png', "🌸.png", "new\nline.png"]
    assert all(source.pixels(index).shape == (4, 4, 3) for index in range(4))
