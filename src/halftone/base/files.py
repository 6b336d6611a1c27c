"""Files that are either whole or absent: written beside their place, made durable, then renamed into it."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from halftone.base.crash import crash_point, crash_within
from halftone.base.errors import ModelFileError, ResourceError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_LARGEST_JSON = 256 << 20
"""Bytes. The metrics of 10,000 classes have 200 MB, for their confusion matrix."""
_MOST_CONTAINERS = 1_000_000
"""Lists and objects in one JSON text: an empty one takes 3 bytes there and 64 in memory."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success make it durable and rename it to `path`.

    The order is write, fsync the file, rename, fsync the folder, so that a crash at any point leaves either
    the old file or the new one. On failure the temporary file is removed and `path` is untouched.

    Raises:
        ResourceError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        crash_point()
        yield temporary
        crash_within(temporary)
        temporary.chmod(path.parent.stat().st_mode & 0o666)  # some writers hide their files from everybody else
        crash_point()
        _flush(temporary)
        crash_point()
        temporary.replace(path)
        crash_point()
        _flush(path.parent)
        crash_point()
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def storage_error(path: Path, error: OSError) -> ResourceError:
    """Translate an operating-system error on writing `path` into one line with a next action."""
    if error.errno in _FULL:
        return ResourceError(f"disk full while writing {path}", hint="free some space, then go on with --resume")
    if error.errno in _FORBIDDEN:
        return ResourceError(f"no permission to write {path}", hint="choose another place with --run.root")
    return ResourceError(f"cannot write {path}: {error.strerror or error}")


def make_folder(path: Path) -> None:
    """Make a folder and those around it, unless it is there.

    Raises:
        ResourceError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: indented, and strict (a NaN is an error here, not a broken file for the reader)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """Read JSON that a stranger may have written.

    Raises:
        ValueError: it is no JSON, or would take many times its length in memory.
    """
    containers = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if containers > _MOST_CONTAINERS:
        raise ValueError(f"it holds {containers} lists and objects; at most {_MOST_CONTAINERS} are read")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one mapping.

    Raises:
        ModelFileError: it is missing, too large or damaged.
    """
    values = read_json_value(path)
    if not isinstance(values, dict):
        raise ModelFileError(f"{path} is damaged: it holds no mapping", hint="restore it, or train again")
    return values


def read_json_value(path: Path) -> Any:
    """Read a JSON file that holds anything.

    Raises:
        ModelFileError: it is missing, too large or damaged.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_JSON:
            raise ModelFileError(f"{path} has {size} bytes; at most {_LARGEST_JSON} are read")
        return parse_json(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: {error}", hint="restore it, or train again") from error


def remove_stale(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(".*.tmp"):
        crash_point()
        leftover.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
