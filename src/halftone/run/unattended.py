"""A run that is one of many: quiet, and begun or gone on with by whoever comes to it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halftone.base.errors import ModelFileError
from halftone.run.checkpoint import load_newest
from halftone.run.folder import RunFolder

QUIET: Mapping[str, Any] = {"report": False, "tensorboard": False, "fit_images": 0}
"""Settings of `run` for one of many: what nobody opens is not made."""


def can_go_on(folder: Path) -> bool:
    """Tell whether a run that was stopped or killed can go on; what is left of one that cannot is cleared away."""
    if not folder.is_dir():
        return False
    try:
        load_newest(RunFolder(folder).checkpoints)
    except ModelFileError:
        shutil.rmtree(folder)
        return False
    return True
