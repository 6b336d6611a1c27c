"""The schedule of one run: a pure function of the number of applied optimizer updates, and a factor for plateaus."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from halftone.base.errors import RecipeError, listed
from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.schedule import curves
from halftone.schedule.config import FIRST_SHARE, DecayConfig, WarmupConfig, WarmupShape

Curve = Callable[[int], float]
_WARMUPS: dict[WarmupShape, Callable[[int, int, float], float]] = {
    "linear": curves.linear_warmup,
    "exponential": curves.exponential_warmup,
    "cosine": curves.cosine_warmup,
    "constant": curves.constant_warmup,
    "adaptive": curves.linear_warmup,
}
_EXPONENTIAL_END = 0.01


@dataclass(slots=True)
class Plateau:
    """Lowers the rate when a number stops falling; the one schedule with a memory."""

    gamma: float
    patience: int
    best: float = float("inf")
    waited: int = 0
    factor: float = 1.0

    def observe(self, loss: float) -> bool:
        """Take the validation loss of an epoch; return whether the rate falls now. A NaN is no improvement."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        if self.waited <= self.patience:
            return False
        self.factor *= self.gamma
        self.waited = 0
        return True


@dataclass(slots=True)
class Schedule:
    """The rate at each optimizer update, as a share of its peak."""

    total_steps: int
    warmup_steps: int
    warmup: Curve
    decay: Curve
    """A function of the steps since the warmup."""
    plateau: Plateau | None = None
    _table: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """The curve at every step, [steps], on the device that was asked from."""

    def share(self, step: int) -> float:
        """Return the share of the peak rate for the update after `step` applied ones."""
        value = self._curve(step)
        return value if self.plateau is None else value * self.plateau.factor

    def share_at(self, step: Tensor) -> Tensor:
        """Return the same for a number of applied updates that lies on the device, int64 [] and below `total_steps`.

        Returns:
            The share in float64, [], without waiting for the device but in the first call.
        """
        if self._table is None or self._table.device != step.device:
            curve = [self._curve(number) for number in range(self.total_steps)]
            self._table = torch.tensor(curve, dtype=torch.float64, device=step.device)
        value = self._table.take(step)
        return value if self.plateau is None else value * self.plateau.factor

    def _curve(self, step: int) -> float:
        return self.warmup(step) if step < self.warmup_steps else self.decay(step - self.warmup_steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the plateau; everything else follows from the step."""
        plateau = self.plateau
        if plateau is None:
            return {}
        best = None if plateau.best == float("inf") else plateau.best
        return {"best": best, "waited": plateau.waited, "factor": plateau.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if self.plateau is not None:
            best = state["best"]
            self.plateau.best = float("inf") if best is None else float(best)
            self.plateau.waited = int(state["waited"])
            self.plateau.factor = float(state["factor"])


def build_schedule(warmup: WarmupConfig, decay: DecayConfig, *, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Build the schedule of a run. Here the lengths become optimizer steps.

    Args:
        warmup: settled, its length not `auto`.
        decay: settled.
        steps_per_epoch: optimizer updates in an epoch.
        total_steps: optimizer updates in the run.

    Raises:
        RecipeError: a milestone of the decay lies within the warmup.
    """
    span = decided(warmup.length)
    warmup_steps = min(span.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps), total_steps)
    rise, start = _WARMUPS[decided(warmup.shape)], FIRST_SHARE if warmup.start == "auto" else warmup.start
    return Schedule(
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        warmup=lambda step: rise(step, warmup_steps, start),
        decay=_decay_curve(decay, warmup_steps, steps_per_epoch, total_steps),
        plateau=Plateau(decay.gamma, decay.patience) if decay.shape == "plateau" else None,
    )


def _decay_curve(config: DecayConfig, warmup_steps: int, steps_per_epoch: int, total_steps: int) -> Curve:
    length, end = max(total_steps - warmup_steps, 1), config.end

    def steps(span: Span) -> int:
        return span.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps)

    match config.shape:
        case "cosine":
            return lambda step: curves.cosine_decay(step, length, end)
        case "linear":
            return lambda step: curves.polynomial_decay(step, length, end, 1)
        case "polynomial":
            return lambda step: curves.polynomial_decay(step, length, end, config.power)
        case "exponential":
            return lambda step: curves.exponential_decay(step, length, end or _EXPONENTIAL_END)
        case "step":
            every, gamma = steps(config.every), config.gamma
            return lambda step: curves.step_decay(step, every, gamma)
        case "multistep":
            # milestones count from the start of the run, the curve from the end of the warmup
            milestones, fall = [steps(span) - warmup_steps for span in config.milestones], config.gamma
            if min(milestones, default=0) < 0:
                raise RecipeError(
                    f"decay.milestones = {listed(map(str, config.milestones))}: the first falls into the warmup, "
                    f"which ends at step {warmup_steps}",
                    hint="shorten the warmup or move the milestone",
                )
            return lambda step: curves.multistep_decay(step, milestones, fall)
        case _:
            return lambda _: 1.0
