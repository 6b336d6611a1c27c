"""Where a study lies, and who works on it: an SQLite file, and locks.

The operating system lets go of a lock when its process ends, in whatever way, so that another process sees at once what
was left. Hence there are no heartbeats, and no waiting for them to stay away.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

from halftone.base.errors import ModelFileError
from halftone.base.extras import require

_PATIENCE = 60
"""Seconds in which a process waits for another one to write."""


def holds(storage: Path, name: str) -> bool:
    """Return whether a storage holds a study of a name."""
    if not storage.is_file():
        return False
    optuna = require("optuna", extra="tune")
    opened = open_file(storage)
    try:
        return name in optuna.get_all_study_names(storage=opened)
    finally:
        opened.remove_session()
        opened.engine.dispose()


def open_file(path: Path) -> Any:
    """Open an SQLite file as Optuna's storage, with a log of its own for writing, so that readers do not wait."""
    optuna = require("optuna", extra="tune")
    options = {"connect_args": {"timeout": _PATIENCE}}
    try:
        with locked(
            path.with_name(f".{path.name}.lock")
        ):  # two that made the tables at once would be in each other's way
            with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)
    except (sqlite3.Error, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(
            f"storage = {path}: it cannot be opened as the storage of a study: {reason}", hint="name another file"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file and hold it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> TextIO | None:
    """Take the lock of a file if nobody holds it; it is let go of when the file is closed, or the process ends."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
