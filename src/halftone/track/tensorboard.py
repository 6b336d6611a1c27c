"""TensorBoard: the same numbers as in the tables, under the step that was tried."""

from typing import Any

import torch

from halftone.loop.events import EpochDone, StepTaken
from halftone.run.events import CheckpointDue, Event, Started
from halftone.track.tables import epoch_numbers
from halftone.track.tracker import sampled


class TensorBoard:
    """Writes TensorBoard events into the run's folder."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._writer: Any = None
        self._tried = 0
        self._every = 1

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Started():
                from torch.utils.tensorboard import SummaryWriter

                # points after the checkpoint that a run goes on from are hidden, not shown twice
                self._writer = SummaryWriter(str(event.folder.path), purge_step=event.tried + 1)
                self._tried, self._every = event.tried, event.plan.settled.run.track_every
            case StepTaken():
                self._tried = event.tried
                if sampled(event.tried, self._every):
                    self._add("steps/loss", event.loss)
                    self._add("steps/lr", event.lr)
                    self._add("steps/grad_norm", event.grad_norm)
                    self._add("steps/loss_scale", event.loss_scale)
                    self._add("steps/update_ratio", event.update_ratio)
                    self._add("steps/skipped_steps", event.tried - int(event.step))
            case EpochDone():
                for name, value in epoch_numbers(event).items():
                    self._add(f"epoch/{name}", value)
                self._writer.flush()
            case CheckpointDue():
                self._writer.flush()  # a run that goes on from there does not write these points again
            case _:
                pass

    def _add(self, name: str, value: float | torch.Tensor | None) -> None:
        if value is not None:
            self._writer.add_scalar(name, float(value), self._tried)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
