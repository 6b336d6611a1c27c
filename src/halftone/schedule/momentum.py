"""The course of the momentum: through the warmup to its value, and on to another in the decay."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MomentumCurve:
    """Momentum, or beta1 of the adam family, as a function of the step."""

    first: float | None
    """Where the warmup starts; None stays."""
    usual: float
    last: float | None
    """Where the decay ends; None stays."""

    @property
    def moves(self) -> bool:
        """Whether it is anything but constant."""
        return self.first is not None or self.last is not None

    def value(self, step: int, *, warmup_steps: int, total_steps: int) -> float:
        """Return the momentum for the update after `step` applied ones."""
        if step < warmup_steps and self.first is not None:
            return self.first + (self.usual - self.first) * step / warmup_steps
        if step < warmup_steps or self.last is None:
            return self.usual
        share = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1)
        return self.usual + (self.last - self.usual) * (1 - math.cos(math.pi * share)) / 2
