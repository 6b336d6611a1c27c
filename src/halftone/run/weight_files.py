"""Weight files of any origin, opened: of a run, of a checkpoint in one, or somebody else's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from halftone.base.errors import ModelFileError
from halftone.run.checkpoint import KIND as CHECKPOINT
from halftone.run.folder import RunFolder
from halftone.run.inference import weight_file
from halftone.run.model_file import ModelCard, card_of
from halftone.run.tree import unflatten
from halftone.weights.files import load_weights


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The weights of a network, and what is known of them."""

    path: Path
    tensors: dict[str, Tensor]
    kind: str
    """What the file is, in words."""
    card: ModelCard | None = None
    """What a run wrote beside its weights."""
    epoch: int = 0
    step: int = 0


def open_weights(path: Path) -> WeightFile:
    """Read a weight file of any origin; a run's folder means its best weights.

    Of a checkpoint, the weights that the run evaluates are taken: their moving average, if it keeps one.

    Raises:
        ModelFileError: missing, damaged, unsafe, or without weights.
    """
    path = weight_file(path)
    stored = load_weights(path)
    if stored.header.get("kind") == CHECKPOINT:
        return _of_checkpoint(path, unflatten(stored.tensors, stored.header.get("state")))
    card = card_of(path, stored.header)
    if card is None:
        return WeightFile(path, stored.tensors, "weights of no run" if stored.header else "a file of other origin")
    return WeightFile(path, stored.tensors, "weights of a run", card, card.epoch, card.step)


def _of_checkpoint(path: Path, state: Any) -> WeightFile:
    try:
        averaged = "average" in state
        tensors = state["average"]["module"] if averaged else state["model"]
        progress = state["progress"]
        epoch, step = int(progress["epoch"]), int(progress["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is a checkpoint without weights") from error
    kind = "the averaged weights of a checkpoint" if averaged else "the weights of a checkpoint"
    return WeightFile(path, dict(tensors), kind, epoch=epoch, step=step)


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a file or folder belongs to, or None."""
    path = path.expanduser().resolve()
    found = (place for place in (path, path.parent, path.parent.parent) if RunFolder(place).plan.is_file())
    return next((RunFolder(place) for place in found), None)
