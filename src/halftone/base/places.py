"""Where things are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what can be made again: `HALFTONE_CACHE`, or `halftone` in the user's cache."""
    named = os.environ.get("HALFTONE_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halftone"
