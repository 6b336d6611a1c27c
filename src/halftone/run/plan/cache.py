"""What was measured before on this machine, so that the same question is not measured twice."""

import os
from pathlib import Path

from pydantic import ValidationError

from halftone.base.errors import HalftoneError
from halftone.base.files import write_text
from halftone.precision.probe import Finding


def folder() -> Path:
    """Return the folder of findings: `halftone/precision` in the user's cache (`XDG_CACHE_HOME`)."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "halftone" / "precision"


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
