"""Where things are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what can be made again: `HALFTONE_CACHE`, or `halftone` in the user's cache.

    A user without a home has no such place: what is written there is refused, and what would be kept is made anew.
    """
    named = os.environ.get("HALFTONE_CACHE")
    if named:
        return Path(named).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "halftone"
    except RuntimeError:
        return Path(os.devnull) / "halftone"
