"""What a run saves while it trains: its state in a rhythm, and the weights of the best and the last epoch.

A full disk does not end the run: what could not be saved is said, and tried again at the next opportunity.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from halftone.base.errors import ResourceError
from halftone.loop.events import EpochDone
from halftone.loop.session import Session
from halftone.loop.state import Progress
from halftone.run.checkpoint import SaveRhythm, save_checkpoint
from halftone.run.events import BestSaved, CheckpointDue, CheckpointSaved, Event, Notice
from halftone.run.folder import RunFolder
from halftone.run.model_file import model_card, save_model
from halftone.run.plan.record import Plan


@dataclass(frozen=True, slots=True)
class _Weights:
    """The weights of an epoch, and where they belong."""

    path: Path
    tensors: dict[str, Tensor]
    done: EpochDone


@dataclass(slots=True)
class Saving:
    """Saves one run."""

    plan: Plan
    session: Session
    progress: Progress
    folder: RunFolder
    rhythm: SaveRhythm
    _waiting: _Weights | None = field(default=None, init=False)
    """The best weights, as long as they could not be saved."""

    def checkpoint(self) -> Generator[Event, None, ResourceError | None]:
        """Save the state, after whoever keeps a log has brought it up to date.

        Returns:
            Why it could not be saved, as the generator's value; None if it is safe on disk.

        Raises:
            Diverged: a weight is not finite.
        """
        tried, epoch = self.progress.tried, self.progress.epoch
        if self.rhythm.last == (tried, epoch):
            return None
        yield CheckpointDue(tried)
        try:
            path = save_checkpoint(
                self.folder.checkpoints, self.session, self.progress, keep=self.plan.settled.run.keep
            )
        except ResourceError as error:
            self.rhythm.failed(tried)
            yield Notice(f"the checkpoint could not be saved, and the one before it is kept: {error}")
            return error
        self.rhythm.saved(tried, epoch)
        yield CheckpointSaved(path, tried)
        return None

    def weights(self, done: EpochDone) -> Iterator[Event]:
        """Save the weights of an epoch, first as the best ones if they are.

        Raises:
            Diverged: a weight is not finite.
        """
        tensors = self.session.evaluated().state_dict()
        if done.improved:
            self._waiting = _Weights(self.folder.best, tensors, done)
        yield from self.waiting()
        if self._waiting is not None and self._waiting.done is done:  # training will change the network's own tensors
            kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
            self._waiting = _Weights(self.folder.best, kept, done)
        try:
            self._write(_Weights(self.folder.last, tensors, done))
        except ResourceError as error:
            yield Notice(f"the weights of epoch {done.epoch} could not be saved: {error}")

    def waiting(self) -> Generator[Event, None, ResourceError | None]:
        """Save the best weights if they still wait for it.

        Returns:
            Why they still do, as the generator's value.
        """
        best = self._waiting
        if best is None:
            return None
        try:
            self._write(best)
        except ResourceError as error:
            yield Notice(f"the best weights, of epoch {best.done.epoch}, could not be saved: {error}")
            return error
        self._waiting = None
        yield BestSaved(best.path, best.done.epoch, best.done.evaluation)
        return None

    def _write(self, weights: _Weights) -> None:
        done = weights.done
        card = model_card(self.plan, epoch=done.epoch, step=done.step, metrics=done.evaluation.metrics)
        save_model(weights.path, weights.tensors, card)
