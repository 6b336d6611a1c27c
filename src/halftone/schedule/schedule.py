"""The schedule of one run: a pure function of the number of applied optimizer updates, and of what was decided."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from halftone.schedule.adaptive import AdaptiveWarmup, WarmupDecision
from halftone.schedule.lanes import Lane
from halftone.schedule.momentum import MomentumCurve
from halftone.schedule.plateau import Plateau

Curve = Callable[[int], float]
MAIN = ""
"""The lane of all that have none of their own."""


@dataclass(slots=True)
class Schedule:
    """The rate at each optimizer update, as a share of its peak."""

    total_steps: int
    fixed_steps: int
    """Length of a warmup that is not adaptive."""
    fixed_warmup: Curve
    decay_from: Callable[[int], Curve]
    """From the step that ends the warmup to a function of the steps since then."""
    warmup_end: float
    momentum: MomentumCurve
    plateau: Plateau | None = None
    adaptive: AdaptiveWarmup | None = None
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    _decay: tuple[int, Curve] | None = field(default=None, init=False, repr=False, compare=False)
    _tables: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The curves at every step, [steps], on the device that was asked from, by lane."""

    @property
    def warmup_steps(self) -> int:
        """The step in which the warmup ends; for an adaptive one, as it looks now."""
        return self.fixed_steps if self.adaptive is None else self.adaptive.end

    def share(self, step: int, lane: str = MAIN) -> float:
        """Return the share of the peak rate for the update after `step` applied ones."""
        value = self._curve(step, lane)
        return value if self.plateau is None else value * self.plateau.factor

    def share_at(self, step: Tensor, lane: str = MAIN) -> Tensor:
        """Return the same for a number of applied updates that lies on the device, int64 [] and below `total_steps`.

        Returns:
            The share in float64, [], without waiting for the device but in the first call.
        """
        table = self._tables.get(lane)
        if table is None or table.device != step.device:
            curve = [self._curve(number, lane) for number in range(self.total_steps)]
            table = self._tables[lane] = torch.tensor(curve, dtype=torch.float64, device=step.device)
        value = table.take(step)
        return value if self.plateau is None else value * self.plateau.factor

    def momentum_at(self, step: int) -> float | None:
        """Return the momentum for the update after `step` applied ones, or None if it never moves."""
        if not self.momentum.moves:
            return None
        return self.momentum.value(step, warmup_steps=self.warmup_steps, total_steps=self.total_steps)

    def needs_host(self, step: int) -> bool:
        """Tell whether the host must know what became of each step: it decides the rate, or sets the momentum."""
        return self.momentum.moves or (self.adaptive is not None and self.adaptive.watches(step))

    def observe(self, step: int, loss: float, *, applied: bool, update_ratio: float | None) -> WarmupDecision | None:
        """Let an adaptive warmup take what a step came to; see `AdaptiveWarmup.observe`."""
        if self.adaptive is None:
            return None
        decision = self.adaptive.observe(step, loss, applied=applied, update_ratio=update_ratio)
        if decision is not None:
            self._tables.clear()
        return decision

    def _curve(self, step: int, lane: str) -> float:
        main, own = self._main(step), self.lanes.get(lane)
        if own is None:
            return main
        return own.share(step, main, warmup_steps=self.warmup_steps, warmup_end=self.warmup_end)

    def _main(self, step: int) -> float:
        end = self.warmup_steps
        if step < end:
            return self.fixed_warmup(step) if self.adaptive is None else self.adaptive.share(step)
        if self._decay is None or self._decay[0] != end:
            self._decay = end, self.decay_from(end)
        value = self._decay[1](step - end)
        return value if self.adaptive is None else value * self.adaptive.peak

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the plateau and of an adaptive warmup; everything else follows from the step."""
        state: dict[str, Any] = {}
        if self.plateau is not None:
            plateau = self.plateau
            best = None if plateau.best == float("inf") else plateau.best
            state |= {"best": best, "waited": plateau.waited, "factor": plateau.factor}
        if self.adaptive is not None:
            state["adaptive"] = self.adaptive.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        if self.plateau is not None:
            best = state["best"]
            self.plateau.best = float("inf") if best is None else float(best)
            self.plateau.waited = int(state["waited"])
            self.plateau.factor = float(state["factor"])
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["adaptive"])
        self._tables.clear()
