"""Which files of a tree count as images."""

import os
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from halftone.base.errors import UnreadableImage
from halftone.data.sources.files import FileImages, is_hidden, looks_like_image, walk
from pictures import encoded, noise, write


def test_files_come_sorted_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.png", "a/10.png", "a/deep/er/x.png", "c.png"):
        write(tmp_path / name)
    assert list(walk(tmp_path)) == ["b.png", "c.png", "a/10.png", "a/2.png", "a/deep/er/x.png"]


def test_A21_a_loop_of_links_ends_and_brings_no_file_twice(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "1.png")
    write(tmp_path / "dog" / "2.png")
    write(tmp_path / "cat" / "more" / "3.png")
    (tmp_path / "cat" / "loop").symlink_to("..")
    (tmp_path / "cat" / "more" / "again").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to("self")
    (tmp_path / "cat" / "self.jpg").symlink_to("self.jpg")
    assert list(walk(tmp_path / "cat")) == ["1.png", "more/3.png"]


def test_A21_a_folder_that_is_linked_twice_is_entered_once(tmp_path: Path) -> None:
    write(tmp_path / "store" / "1.png")
    (tmp_path / "cat").mkdir()
    for name in ("x", "y"):
        (tmp_path / "cat" / name).symlink_to(tmp_path / "store", target_is_directory=True)
    assert list(walk(tmp_path / "cat")) == ["x/1.png"]


def test_A22_what_is_not_a_regular_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "1.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        assert list(walk(tmp_path)) == ["1.png"]


def test_A25_system_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._1.png", ".ipynb_checkpoints/1-checkpoint.png"):
        write(tmp_path / name)
    assert list(walk(tmp_path)) == ["1.png"]
    assert is_hidden("THUMBS.DB")
    assert not is_hidden("thumbs")


AWKWARD = (
    "日本語.png",
    "🌸 flower.png",
    unicodedata.normalize("NFC", "é.png"),
    unicodedata.normalize("NFD", "é.png"),
    "new\nline.png",
    "-rf.png",
    "a b\t'\".png",
    "x" * 251 + ".png",
)


def test_A23_awkward_names_are_read(tmp_path: Path) -> None:
    for name in AWKWARD:
        write(tmp_path / name)
    found = tuple(walk(tmp_path))
    assert sorted(found) == sorted(AWKWARD)
    source = FileImages(tmp_path, found, np.zeros(len(found), dtype=np.int64), ("all",))
    for index, name in enumerate(found):
        assert source.name(index) == name
        assert source.pixels(index).shape == (4, 4, 3)
        assert source.look(index)[:3] == (4, 4, False)
        assert source.content(index) == (tmp_path / name).read_bytes()


def test_A24_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/bad\xff.png")).write_bytes(encoded(noise(3, 3)))
    except OSError:
        pytest.skip("this file system takes text only")
    assert list(walk(tmp_path)) == ["bad\udcff.png"]
    assert FileImages(tmp_path, ("bad\udcff.png",), np.zeros(1, dtype=np.int64), ("all",)).pixels(0).shape == (3, 3, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_A26_a_file_without_an_extension_is_known_by_its_start(tmp_path: Path, kind: str) -> None:
    assert looks_like_image(write(tmp_path / "picture", noise(8, 8), kind=kind))


def test_A26_extensions_in_any_case(tmp_path: Path) -> None:
    for name in ("a.JPG", "a.Jpeg", "a.PnG", "a.WEBP", "a.tif", "a.pgm"):
        assert looks_like_image(tmp_path / name)
    for name, content in {"a.txt": b"text", "a.json": b"{}", "empty": b"", "README": b"BP is no BMP"}.items():
        assert not looks_like_image(write(tmp_path / name, content))
    assert not looks_like_image(tmp_path / "gone")


def test_A20_an_unreadable_file_is_listed_and_fails_when_it_is_read(plain_user: Path) -> None:
    write(plain_user / "1.png")
    write(plain_user / "2.png").chmod(0)
    assert list(walk(plain_user)) == ["1.png", "2.png"]
    source = FileImages(plain_user, ("1.png", "2.png"), np.zeros(2, dtype=np.int64), ("all",))
    assert source.array is None
    with pytest.raises(UnreadableImage, match="Permission denied"):
        source.pixels(1)
    write(plain_user / "extensionless").chmod(0)
    assert not looks_like_image(plain_user / "extensionless")
