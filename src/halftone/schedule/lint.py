"""What looks wrong about a course of the rate: from the built schedule to sentences, a pure function."""

from collections.abc import Iterator
from itertools import pairwise

from halftone.base.records import decided
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.schedule.schedule import Schedule

_USELESS = 0.02
"""Mean share of the peak in the first epoch, below which it teaches next to nothing."""
_MOSTLY_WARMUP = 0.5
"""Share of the run."""
_JUMP = 1.2
"""Factor from the last rate of the warmup to the first after it."""
_ABOVE_END = 0.05
"""Share of the peak by which the last rate may miss the end of the decay."""
_STEADY = ("constant", "plateau")
"""Decays that have no end to reach."""


def lint(
    schedule: Schedule,
    warmup: WarmupConfig,
    decay: DecayConfig,
    *,
    steps_per_epoch: int,
    peak: float,
    stable: float | None = None,
) -> tuple[str, ...]:
    """Say what looks wrong about the rate of a run.

    Args:
        schedule: as built, before its first step.
        warmup: what it was built from, settled.
        decay: what it was built from.
        steps_per_epoch: optimizer updates in an epoch.
        peak: the peak rate.
        stable: the largest peak that measurements support, where there are any.

    Returns:
        A sentence per finding: the fault with its numbers, and what to do.
    """
    shares = [schedule.share(step) for step in range(schedule.total_steps)]
    return (
        *_join(schedule, warmup, shares),
        *_first_epoch(shares, schedule, steps_per_epoch),
        *_length(schedule, steps_per_epoch),
        *_end(shares, decay, schedule),
        *_peak(peak, stable, shares),
    )


def _join(schedule: Schedule, warmup: WarmupConfig, shares: list[float]) -> Iterator[str]:
    """Find a jump from the warmup to what follows; the last step of a steep warmup is none."""
    end = schedule.warmup_steps
    if not 0 < end < len(shares):
        return
    shape = decided(warmup.shape)
    last = shares[end - 1] if shape == "constant" else warmup.end
    factor = shares[end] / last if last else float("inf")
    if factor >= _JUMP:
        why = "a constant warmup does not rise" if shape == "constant" else f"warmup.end is {warmup.end:g}"
        remedy = "--warmup.shape linear" if shape == "constant" else "--warmup.end 1"
        yield f"the rate jumps by a factor of {factor:.3g} when the warmup is over, at step {end}: {why}; see {remedy}"


def _first_epoch(shares: list[float], schedule: Schedule, steps_per_epoch: int) -> Iterator[str]:
    """Find an epoch lost to a rate that is next to nothing."""
    first = shares[: max(steps_per_epoch, 1)]
    mean = sum(first) / max(len(first), 1)
    if len(first) < len(shares) and mean < _USELESS:
        yield (
            f"the rate of the first epoch is {mean:.1%} of the peak in the mean, so it teaches next to nothing: a "
            f"shorter --warmup than {schedule.warmup_steps} steps, or a higher --warmup.start"
        )


def _length(schedule: Schedule, steps_per_epoch: int) -> Iterator[str]:
    share = schedule.warmup_steps / max(schedule.total_steps, 1)
    if share > _MOSTLY_WARMUP:
        yield (
            f"the warmup takes {schedule.warmup_steps} of {schedule.total_steps} steps, {share:.0%} of the run, which "
            f"leaves {(schedule.total_steps - schedule.warmup_steps) / max(steps_per_epoch, 1):.3g} epochs to train: "
            "a shorter --warmup, or more --epochs"
        )


def _end(shares: list[float], decay: DecayConfig, schedule: Schedule) -> Iterator[str]:
    """Find a decay that is cut off: its last rate lies well above its end."""
    after = shares[schedule.warmup_steps :]
    if len(after) <= 1 or decay.shape in _STEADY:
        return
    last = after[-1]
    if decay.shape in ("step", "multistep"):
        if last >= after[0]:
            setting = "every" if decay.shape == "step" else "milestones"
            yield f"the rate never falls: decay.{setting} lies behind the end of the run, step {schedule.total_steps}"
        return
    drop = max(before - now for before, now in pairwise(after))  # the curve ends one step after the run
    if last <= decay.end + _ABOVE_END + max(drop, 0.0):
        return
    if decay.shape == "cosine-restarts":
        yield (
            f"the run ends within a cycle, at {last:.0%} of the peak instead of {decay.end:.0%}: choose --decay.cycle "
            f"so that whole cycles fill the {len(after)} steps after the warmup"
        )
    else:
        yield f"the rate never reaches its minimum of {decay.end:.0%} of the peak: it ends at {last:.0%}"


def _peak(peak: float, stable: float | None, shares: list[float]) -> Iterator[str]:
    """Find a peak above what was measured stable."""
    highest = peak * max(shares, default=0.0)
    if stable is not None and highest > stable:
        yield (
            f"the peak rate of {highest:.3g} lies above what was measured stable, which ends at {stable:.2g}: training "
            "may diverge at the end of the warmup; lower --lr"
        )
