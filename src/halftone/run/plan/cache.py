"""What was measured before on this machine, so that the same question is not measured twice."""

from pathlib import Path

from pydantic import ValidationError

from halftone.base.errors import HalftoneError
from halftone.base.files import write_text
from halftone.base.places import cache_folder
from halftone.precision.probe import Finding


def folder() -> Path:
    """Return the folder of findings: `precision` in the cache of halftone (`HALFTONE_CACHE`)."""
    return cache_folder() / "precision"


def read(key: str) -> Finding | None:
    """Return an earlier finding, or None; a file that cannot be read is no finding."""
    try:
        return Finding.model_validate_json((folder() / f"{key}.json").read_text("utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write(key: str, finding: Finding) -> None:
    """Keep a finding; where nothing can be written, it is measured anew next time."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_text(folder() / f"{key}.json", finding.model_dump_json(indent=1))
    except (OSError, HalftoneError):
        return
