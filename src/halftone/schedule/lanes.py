"""Groups of parameters whose rate has a course of its own beside the schedule: biases, layers that thaw or halt."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Lane:
    """How the rate of some parameters departs from that of the others."""

    begins: int = 0
    """The step in which they begin to train; the rate is zero before it."""
    warmup_steps: int = 0
    """How long the rate rises from then on, in a straight line."""
    bias: float | None = None
    """The share of the peak from which it moves to the others' in the warmup; None goes with them."""
    ends: float = inf
    """The step in which they stop training; until then the rate is at most a straight line from the peak to zero."""

    def share(self, step: int, main: float, *, warmup_steps: int, warmup_end: float) -> float:
        """Return the share of the peak, given that of the others.

        Args:
            step: updates applied before this one.
            main: the others' share.
            warmup_steps: of the run.
            warmup_end: the share at its end.
        """
        if step < self.begins:
            return 0.0
        if self.bias is not None and step < warmup_steps:
            main = self.bias + (warmup_end - self.bias) * step / warmup_steps
        risen = (step - self.begins + 1) / (self.warmup_steps + 1) if self.begins else 1.0
        share = main * min(risen, 1.0)
        return share if self.ends == inf else min(share, max(0.0, 1 - step / self.ends))
