"""Checkpoints: the whole state in one sealed file per save, the newest whole one found by its step number."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halftone.base.crash import crash_point
from halftone.base.errors import ModelFileError, NewerFormat
from halftone.base.files import remove_stale
from halftone.loop.session import Session
from halftone.loop.state import Progress, capture
from halftone.run.config import RunConfig
from halftone.run.tree import flatten, unflatten
from halftone.weights.files import load_sealed, save_sealed
from halftone.weights.match import refuse_not_finite

KIND = "checkpoint"
_NAME = re.compile(r"^step-(\d+)\.safetensors$")


def save_checkpoint(folder: Path, session: Session, progress: Progress, *, keep: int) -> Path:
    """Save the state, and only then remove the oldest checkpoints beyond `keep`.

    Checkpoints of later steps are removed, too: they were damaged, or the run would not stand here.

    Raises:
        Diverged: a weight is not finite; nothing is written.
        ResourceError: the disk is full; the older checkpoints are untouched.
    """
    refuse_not_finite(session.model.state_dict(), step=progress.tried)
    tensors, tree = flatten(capture(session, progress))
    path = folder / f"step-{progress.tried:09d}.safetensors"
    save_sealed(path, tensors, {"kind": KIND, "state": tree})
    found = checkpoints(folder)
    here = found.index(path)
    for old in (*found[:here], *found[here + keep :]):
        crash_point()
        with suppress(OSError):  # of that name, but no file of ours: somebody's folder
            old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> tuple[dict[str, Any], Path, tuple[str, ...]]:
    """Load the newest checkpoint that is whole.

    Returns:
        The state, its file, and why newer ones were passed over.

    Raises:
        ModelFileError: there is none, or the newest is of a later version's format.
    """
    remove_stale(folder)
    refused: list[str] = []
    for path in checkpoints(folder):
        try:
            stored = load_sealed(path)
            if stored.header.get("kind") != KIND:
                raise ModelFileError(f"{path} is not a checkpoint")
            state = unflatten(stored.tensors, stored.header.get("state"))
            if not isinstance(state, dict):
                raise ModelFileError(f"{path} is a checkpoint without a state")
            return state, path, tuple(refused)
        except NewerFormat:
            raise  # whoever went on with an older one would remove it
        except ModelFileError as error:
            refused.append(str(error))
    if refused:
        raise ModelFileError(f"no whole checkpoint in {folder}: {'; '.join(refused)}", hint="start the run anew")
    raise ModelFileError(f"no checkpoint in {folder}", hint="the run was stopped before its first one; start it anew")


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first, by the step in their name: clocks may jump."""
    found = (path for path in folder.glob("*") if _NAME.match(path.name))
    return sorted(found, key=lambda path: (step_of(path), path), reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the number of steps that were tried before a checkpoint, which its name says."""
    found = _NAME.match(checkpoint.name)
    assert found is not None
    return int(found[1])


@dataclass(slots=True)
class SaveRhythm:
    """When the next checkpoint is due: by steps or by the clock, whichever comes first."""

    every_steps: int
    every_seconds: float
    last: tuple[int, int] | None = None
    """Steps tried and epochs finished at the last save."""
    _attempt: int = 0
    _clock: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, config: RunConfig, *, batches_per_epoch: int, total_steps: int) -> "SaveRhythm":
        """Read the rhythm from the configuration."""
        steps = config.checkpoint_every.steps(steps_per_epoch=batches_per_epoch, total_steps=total_steps)
        return cls(steps or total_steps, config.checkpoint_minutes * 60)

    def due(self, tried: int) -> bool:
        """Tell whether to save now."""
        return tried - self._attempt >= self.every_steps or time.monotonic() - self._clock >= self.every_seconds

    def saved(self, tried: int, epoch: int) -> None:
        """Note that it was done."""
        self.last, self._attempt, self._clock = (tried, epoch), tried, time.monotonic()

    def failed(self, tried: int) -> None:
        """Note that it was attempted in vain; the next attempt comes when it would have come anyway."""
        self._attempt, self._clock = tried, time.monotonic()
