"""What was measured before on this machine, so that the same question is not measured twice."""

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from halftone.base.errors import HalftoneError
from halftone.base.files import write_text
from halftone.base.places import cache_folder
from halftone.base.records import Record

Room = Literal["precision", "rates", "compile"]
"""What was measured."""
Measured = TypeVar("Measured", bound=Record)


def key_of(*parts: object) -> str:
    """Return the name of what was measured: a hash of all that it depends on, by how these parts are written."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def folder(room: Room) -> Path:
    """Return where it is kept: a folder in the cache of halftone (`HALFTONE_CACHE`)."""
    return cache_folder() / room


def read(room: Room, key: str, kind: type[Measured]) -> Measured | None:
    """Return what was measured earlier, or None; a file that cannot be read holds nothing."""
    try:
        return kind.model_validate_json((folder(room) / f"{key}.json").read_text("utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write(room: Room, key: str, measured: Record) -> None:
    """Keep what was measured; where nothing can be written, it is measured anew next time."""
    try:
        folder(room).mkdir(parents=True, exist_ok=True)
        write_text(folder(room) / f"{key}.json", measured.model_dump_json(indent=1))
    except (OSError, HalftoneError):
        return
