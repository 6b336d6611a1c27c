"""From a settled configuration to a schedule. Here the lengths become optimizer steps."""

from collections.abc import Callable, Mapping

from halftone.base.errors import RecipeError, listed
from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.schedule import curves
from halftone.schedule.adaptive import AdaptiveWarmup
from halftone.schedule.config import FIRST_SHARE, DecayConfig, WarmupConfig, WarmupShape
from halftone.schedule.lanes import Lane
from halftone.schedule.momentum import MomentumCurve
from halftone.schedule.plateau import Plateau
from halftone.schedule.schedule import Curve, Schedule

_WARMUPS: dict[WarmupShape, Callable[[int, int, float], float]] = {
    "linear": curves.linear_warmup,
    "exponential": curves.exponential_warmup,
    "cosine": curves.cosine_warmup,
    "constant": curves.constant_warmup,
}
_LONGEST = 0.4
"""Of the run: what an adaptive warmup may take at most, unless more was planned; and at most four times its plan."""
_EXPONENTIAL_END = 0.01
ONE_CYCLE_END = 4e-6
"""The last rate of a one-cycle over its peak, as in torch's OneCycleLR: 1/25 of it, over 10,000."""


def build_schedule(
    warmup: WarmupConfig,
    decay: DecayConfig,
    *,
    steps_per_epoch: int,
    total_steps: int,
    momentum: float = 0.0,
    lanes: Mapping[str, Lane] | None = None,
) -> Schedule:
    """Build the schedule of a run.

    Args:
        warmup: settled, its length not `auto`.
        decay: settled.
        steps_per_epoch: optimizer updates in an epoch.
        total_steps: optimizer updates in the run.
        momentum: what it is between warmup and decay, if it moves.
        lanes: the courses of groups that depart from the rest, by name.

    Raises:
        RecipeError: a milestone of the decay lies within the warmup.
    """
    span = decided(warmup.length)
    warmup_steps = min(span.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps), total_steps)
    start = min(FIRST_SHARE, warmup.end) if warmup.start == "auto" else warmup.start

    def decay_from(step: int) -> Curve:
        return _decay_curve(decay, step, steps_per_epoch, total_steps)

    decay_from(warmup_steps)  # refuses what cannot be
    adaptive = warmup.shape == "adaptive" and warmup_steps > 0
    longest = min(4 * warmup_steps, max(warmup_steps, round(_LONGEST * total_steps)))
    return Schedule(
        total_steps=total_steps,
        fixed_steps=warmup_steps,
        fixed_warmup=_warmup_curve(warmup, warmup_steps, start),
        decay_from=decay_from,
        warmup_end=warmup.end,
        plateau=Plateau(decay.gamma, decay.patience) if decay.shape == "plateau" else None,
        adaptive=AdaptiveWarmup(warmup_steps, start, longest=longest) if adaptive else None,
        momentum=MomentumCurve(warmup.momentum, momentum, decay.momentum),
        lanes=dict(lanes or {}),
    )


def _warmup_curve(config: WarmupConfig, length: int, start: float) -> Curve:
    shape: WarmupShape = "linear" if config.shape == "auto" else config.shape
    rise, end = _WARMUPS.get(shape, curves.linear_warmup), config.end
    if end == 1:
        return lambda step: rise(step, length, start)
    return lambda step: end * rise(step, length, start / end)


def _decay_curve(config: DecayConfig, warmup_steps: int, steps_per_epoch: int, total_steps: int) -> Curve:
    length, end = max(total_steps - warmup_steps, 1), config.end

    def steps(span: Span) -> int:
        return span.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps)

    match config.shape:
        case "cosine":
            return lambda step: curves.cosine_decay(step, length, end)
        case "one-cycle":
            return lambda step: curves.cosine_decay(step, length, end or ONE_CYCLE_END)
        case "cosine-restarts":
            cycle, growth = steps(config.cycle), config.cycle_growth
            return lambda step: curves.cosine_restarts(step, cycle, growth, end)
        case "wsd":
            cooldown, shape = min(steps(config.cooldown), length), config.cooldown_shape
            return lambda step: curves.stable_decay(step, length, cooldown, end, shape)
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
            milestones, fall = _milestones(config, steps, warmup_steps), config.gamma
            return lambda step: curves.multistep_decay(step, milestones, fall)
        case "constant" | "plateau":
            return lambda _: 1.0


def _milestones(config: DecayConfig, steps: Callable[[Span], int], warmup_steps: int) -> list[int]:
    """Return the milestones, which count from the start of the run, from the end of the warmup on."""
    milestones = [steps(span) - warmup_steps for span in config.milestones]
    if min(milestones, default=0) < 0:
        raise RecipeError(
            f"decay.milestones = {listed(map(str, config.milestones))}: the first falls into the warmup, "
            f"which ends at step {warmup_steps}",
            hint="shorten the warmup or move the milestone",
        )
    return milestones
