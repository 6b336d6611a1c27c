"""Files that are whole or absent."""

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from halftone.base import files
from halftone.base.errors import ResourceError
from halftone.base.files import atomic, remove_stale, sha256, storage_error, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Blüte \udcff\n")
    assert (tmp_path / "a.txt").read_bytes() == "Blüte ".encode() + b"\xff\n"
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_D2_the_order_is_write_flush_rename_flush_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    flush, replace = files._flush, Path.replace
    monkeypatch.setattr(files, "_flush", lambda path: (seen.append(f"flush {path.name}"), flush(path))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(f"rename to {to.name}"), replace(self, to))[1])
    with atomic(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"1")
        assert not (tmp_path / "a.bin").exists()
    assert seen == ["flush .a.bin.tmp", "rename to a.bin", f"flush {tmp_path.name}"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_D2_a_failure_keeps_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    expected: Any = ResourceError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic(path) as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk full while writing run/a"),
        (errno.EDQUOT, "disk full while writing run/a"),
        (errno.EFBIG, "disk full while writing run/a"),
        (errno.EACCES, "no permission to write run/a"),
        (errno.EROFS, "no permission to write run/a"),
        (errno.EIO, "cannot write run/a: Input/output error"),
    ],
)
def test_D6_errors_of_the_disk_become_one_line(number: int, message: str) -> None:
    error = storage_error(Path("run/a"), OSError(number, os.strerror(number)))
    assert str(error) == message
    assert error.exit_code == 6


def test_D6_a_full_device_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    (tmp_path / ".a.txt.tmp").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match="disk full"):
        write_text(tmp_path / "a.txt", "x" * 10_000)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot write .*No such file"):
        write_text(tmp_path / "none" / "a.txt", "")


def test_a_file_can_be_read_by_whoever_may_read_the_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with atomic(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"1")
        temporary.chmod(0o600)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o644


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "é\udcff", "number": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"name": "é\udcff", "number": 1.5}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"number": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["number"] == 1.5


def test_D2_only_stale_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in (".a.bin.tmp", "a.bin", ".hidden", "b.tmp"):
        (tmp_path / name).write_text("")
    remove_stale(tmp_path)
    assert names(tmp_path) == [".hidden", "a.bin", "b.tmp"]


def test_sha256_agrees_with_hashlib(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
