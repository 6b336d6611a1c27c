"""A warmup that rises while training is stable, holds or backs off when it is not, and ends early when it is calm.

Warmup lets a network move to where the loss is flatter and larger rates are stable; the largest stable rate grows on
the way (Gilmer et al. 2022; Kalra and Barkeshli 2024, "Why Warmup the Learning Rate?"). They start at the measured
critical rate, the largest one whose first step does not raise the loss, and so save a part of the warmup. Here the
start is measured as there; what is added is a watch over the losses, the skipped steps and the size of the updates in
each step, which makes the length of the warmup a result instead of a setting.

Between two decisions the rate is a function of the step, so it can be drawn beforehand and is resumed exactly.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Action = Literal["held", "backed off", "hurried", "finished", "lowered"]

_BACK_OFF = 0.5
"""Factor on the rate after an instability."""
_SMOOTHING = 0.9
"""Of the running level and spread of the logarithm of the loss: about ten steps."""
_FIRST_SPREAD = 0.1
_NOISE, _LEAST_NOISE = 3.0, 0.01
"""What the spread learns from one loss is bounded by so many spreads, and a little."""
_FEW = 5
"""Steps before level and spread mean something."""
_FAR, _FARTHER = (5.0, 0.4), (8.0, 1.0)
"""Spikes, in spreads and at least in log loss, above the level: two of the first kind in a row, or one of the other."""
_DRIFT = (3.0, 0.25)
"""The same for a level that has risen above its lowest, and for two losses in a row above that of the first step."""
_RISEN = (1.5, 0.1)
"""The same, for the rate to rise no further until the level has come back."""
_SLOWER = 0.5
"""Factor on the slope after an incident."""
_SKIPS = 4
"""Steps in a row with gradients that are not finite; the first ones in fp16 are the loss scale's own affair."""
_LARGE_UPDATE = 0.06
"""Of the norm of the weights, in one step."""
_CALM_UPDATE = 0.02
"""What the updates at the peak may be expected to come to, for the warmup to be hurried."""


@dataclass(frozen=True, slots=True)
class WarmupDecision:
    """What an adaptive warmup decided, and why."""

    action: Action
    share: float
    """Of the peak that was asked for, from now on."""
    reason: str


@dataclass(slots=True)
class AdaptiveWarmup:
    """The share of the peak, watched over. `limit` steps if nothing happens; at most `longest`, in trouble."""

    limit: int
    start: float
    """The first share of the peak."""
    longest: int = 0
    """Steps; 0 stands for four times the limit."""
    since: int = 0
    """The step in which the present stretch begins."""
    share_then: float = field(init=False)
    slope: float = field(init=False)
    """What the share gains in each step."""
    held_until: int = 0
    peak: float = 1.0
    """The share that is aimed at, and from which the decay starts."""
    finished: int | None = None
    """The step in which the peak was reached."""
    level: float | None = None
    """Running mean of the logarithm of the loss."""
    spread: float = _FIRST_SPREAD
    """Running mean of the distance from it."""
    lowest: float | None = None
    first: float | None = None
    """The logarithm of the first loss."""
    num_seen: int = 0
    num_spikes: int = 0
    """In a row."""
    num_worse: int = 0
    """In a row, than the first step."""
    num_skipped: int = 0
    """In a row."""
    calm_since: int = 0

    def __post_init__(self) -> None:
        """Aim at the peak in a straight line."""
        self.longest = self.longest or 4 * self.limit
        self.share_then = self.start
        self.slope = (1 - self.start) / max(self.limit, 1)

    @property
    def end(self) -> int:
        """The step in which the warmup ends, as it looks now."""
        if self.finished is not None:
            return self.finished
        return min(self._arrival, self.longest)

    @property
    def _arrival(self) -> int:
        """The step in which the peak is reached."""
        rise = self.peak - self.share_then
        begin = max(self.since, self.held_until)
        return begin if rise <= 0 else begin + math.ceil(rise / self.slope - 1e-9)

    def share(self, step: int) -> float:
        """Return the share of the peak before `end`, for the update after `step` applied ones."""
        moved = max(0, step - max(self.since, self.held_until))
        return min(self.peak, self.share_then + self.slope * moved)

    def watches(self, step: int) -> bool:
        """Tell whether losses are still wanted: until the peak is reached, and a while at it."""
        return self.finished is None or step <= self.finished + max(self.limit, _FEW)

    def observe(self, step: int, loss: float, *, applied: bool, update_ratio: float | None) -> WarmupDecision | None:
        """Take what a step came to, and decide.

        Args:
            step: updates applied so far, this one included.
            loss: of the batch.
            applied: whether the update was applied.
            update_ratio: its norm over that of the weights, where it was measured.
        """
        if not self.watches(step):
            return None
        trouble = self._trouble(loss, applied=applied)
        if trouble:
            return self._back_off(step, trouble)
        if self.finished is not None or not applied:
            return None
        if step >= self._arrival:
            self.finished = step
            return WarmupDecision("finished", self.peak, f"{self.peak:.0%} of the peak is reached after {step} steps")
        if step >= self.end:
            self.peak = self.share(step)
            self.finished = step
            reason = f"after {self.longest} steps instead of the planned {self.limit}, training is not stable at more"
            return WarmupDecision("lowered", self.peak, reason)
        return self._weigh(step, update_ratio)

    def _trouble(self, loss: float, *, applied: bool) -> str:
        """Return what is wrong with a step; nothing if all is well."""
        if not applied:
            self.num_skipped += 1
            several = self.num_skipped == _SKIPS
            return f"{_SKIPS} steps in a row had gradients that are not finite" if several else ""
        self.num_skipped = 0
        value = math.log(max(loss, 1e-12)) if math.isfinite(loss) else math.inf
        if value == math.inf:
            return "the loss is not finite"
        if self.level is None or self.first is None or self.lowest is None:
            self.level = self.first = self.lowest = value
            return ""
        above = value - self.level
        self.num_spikes = self.num_spikes + 1 if self._is_above(above, _FAR) else 0
        if self.num_seen >= _FEW and (self.num_spikes >= 2 or self._is_above(above, _FARTHER)):
            return f"the loss is {math.exp(above):.1f} times its running mean"
        self.num_worse = self.num_worse + 1 if self._is_above(value - self.first, _DRIFT) else 0
        if self.num_worse >= 2 or value > self.first + _FARTHER[1]:
            return f"the loss is {math.exp(value - self.first):.1f} times that of the first step"
        self._follow(value)
        if self.num_seen >= _FEW and self._is_above(self.level - self.lowest, _DRIFT):
            return f"the mean loss has risen by {math.expm1(self.level - self.lowest):.0%} from its lowest"
        return ""

    def _is_above(self, distance: float, bounds: tuple[float, float]) -> bool:
        return distance > max(bounds[0] * self.spread, bounds[1])

    def _follow(self, value: float) -> None:
        assert self.level is not None
        assert self.lowest is not None
        self.num_seen += 1
        keep = min(_SMOOTHING, self.num_seen / (self.num_seen + 1))
        distance = min(abs(value - self.level), _NOISE * self.spread + _LEAST_NOISE)  # an outlier is no noise
        self.spread = keep * self.spread + (1 - keep) * distance
        self.level = keep * self.level + (1 - keep) * value
        if self.num_seen >= _FEW:
            self.lowest = min(self.lowest, self.level) if self.num_seen > _FEW else self.level

    def _back_off(self, step: int, reason: str) -> WarmupDecision:
        """Fall to half, wait, and judge by what comes then."""
        now = self.peak if self.finished is not None else self.share(step)
        share = now * _BACK_OFF
        action: Action = "backed off"
        if self.finished is not None or step >= self.longest:
            self.peak, action = share, "lowered"
            self.finished = step if self.finished is None else self.finished
        self._go_on_from(step, share, hold=self._pause)
        self.slope = (self.peak - share) / max(self.limit, 1) * _SLOWER
        self.level = self.first = self.lowest = None
        self.spread = _FIRST_SPREAD
        self.num_seen = self.num_spikes = self.num_worse = 0
        return WarmupDecision(action, share, reason)

    def _weigh(self, step: int, update_ratio: float | None) -> WarmupDecision | None:
        """Hold where the loss has risen or updates are large; hurry where they are small and will be at the peak."""
        assert self.level is not None
        now = self.share(step)
        risen = 0.0 if self.lowest is None or self.num_seen < _FEW else self.level - self.lowest
        reason = ""
        if self._is_above(risen, _RISEN):
            reason = f"the mean loss has risen by {math.expm1(risen):.0%} from its lowest"
        elif update_ratio is not None and update_ratio > _LARGE_UPDATE:
            reason = f"an update moved the weights by {update_ratio:.0%} of their norm"
        if reason:
            was_held = step < self.held_until
            self._go_on_from(step, now, hold=self._pause)
            if was_held:
                return None
            self.slope *= _SLOWER
            return WarmupDecision("held", now, reason)
        if update_ratio is None:
            return None
        expected = update_ratio * self.peak / max(now, 1e-12)
        if step - self.calm_since >= max(self.limit // 5, 2 * _FEW) and expected <= _CALM_UPDATE:
            self._go_on_from(step, now, hold=0)
            self.slope *= 2
            reason = f"calm: at the peak, an update would move the weights by {expected:.1%} of their norm"
            return WarmupDecision("hurried", now, reason)
        return None

    @property
    def _pause(self) -> int:
        return max(self.limit // 10, _FEW)

    def _go_on_from(self, step: int, share: float, *, hold: int) -> None:
        self.since, self.share_then, self.held_until = step, share, step + hold
        self.calm_since = step + hold

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for entry in fields(self):
            setattr(self, entry.name, state[entry.name])
