"""TensorBoard: the same numbers as in the tables, under the step that was tried."""

from typing import Any

import torch

from halftone.loop.events import EpochDone, StepTaken
from halftone.run.events import Event, Started

_EVERY = 50
"""Steps between points of the step curves."""


class TensorBoard:
    """Writes TensorBoard events into the run's folder."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._writer: Any = None
        self._tried = 0

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Started():
                from torch.utils.tensorboard import SummaryWriter

                # points after the checkpoint that a run goes on from are hidden, not shown twice
                purge = event.tried + 1 if event.tried else None
                self._writer = SummaryWriter(str(event.folder.path), purge_step=purge)
                self._tried = event.tried
            case StepTaken():
                self._tried = event.tried
                if event.tried % _EVERY == 1:
                    self._add("train/loss", event.loss)
                    self._add("train/lr", event.lr)
                    self._add("train/grad_norm", event.grad_norm)
                    self._add("train/loss_scale", event.loss_scale)
            case EpochDone():
                found = event.evaluation.metrics
                self._add("epoch/train_loss", event.train_loss)
                for name in ("loss", "accuracy", "top5", "precision", "recall", "f1", "calibration_error"):
                    self._add(f"validation/{name}", getattr(found, name))
                self._add("speed/images_per_second", event.images_per_second)
                self._add("speed/peak_memory_mb", event.peak_memory_mb)
                self._add("epoch/skipped_steps", event.skipped_steps)
                self._writer.flush()
            case _:
                pass

    def _add(self, name: str, value: float | torch.Tensor | None) -> None:
        if value is not None:
            self._writer.add_scalar(name, float(value), self._tried)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
