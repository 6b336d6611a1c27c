"""A run's warmup judged from its log alone: missing, too short, too long, unneeded or right, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from halftone.base.errors import ModelFileError
from halftone.base.records import Record
from halftone.diagnose.warmup_evidence import Seen, Signal, evidence
from halftone.report.history import read_history
from halftone.run.folder import RunFolder

Kind = Literal["missing", "too short", "too long", "unneeded", "right", "rate too high"]

_FEWEST_STEPS = 20
_ENOUGH = 2
"""Unstable signals that make a run unstable; one alone is what a good large rate shows as well."""
_LONG, _SOME = 0.2, 0.05
"""Shares of the run: from the first on a warmup that did not help was long enough, and the rate is too high; from the
second on if the run was ruined."""
_RUINED = 0.25
"""Nothing was learned in this share of the run."""
_PROPOSED, _PROPOSED_VIOLENT, _MOST = 0.1, 0.2, 0.3
"""Shares of the run that are proposed as a warmup: usually, after violent updates, and at most."""

_SENTENCES: dict[Kind, str] = {
    "missing": "There was no warmup, and one is missing: the first steps at the full rate threw the network off.",
    "too short": "The warmup was too short: training was unstable when the rate reached its peak.",
    "too long": "The warmup was too long: training was stable all the way, at rates too low for too long.",
    "unneeded": "The warmup was not needed: nothing at the peak would have been unstable without it.",
    "right": "The warmup was right.",
    "rate too high": "The rate is too high: training was unstable in spite of the warmup.",
}


class WarmupDiagnosis(Record):
    """What the log of a run says of its warmup."""

    verdict: Kind
    sentence: str
    advice: str
    """One sentence to follow, with a flag where something is to be changed."""
    warmup_steps: int
    """Steps before the rate was at its peak."""
    num_steps: int
    """Of the run, skipped ones included."""
    peak_rate: float
    evidence: tuple[Signal, ...]


@dataclass(frozen=True, slots=True)
class DiagnosedWarmup:
    """A diagnosis, and the numbers behind it."""

    diagnosis: WarmupDiagnosis
    seen: Seen


def diagnose_warmup(folder: RunFolder) -> DiagnosedWarmup:
    """Judge the warmup of a run that has ended, in whatever way, from what it left in its folder.

    Raises:
        ModelFileError: no run, or one with too few steps to judge.
    """
    history = read_history(folder)
    num_steps = len(history.steps.get("loss", []))
    if num_steps < _FEWEST_STEPS:
        raise ModelFileError(
            f"{folder.path} has {num_steps} steps in steps.csv, and a warmup is judged by {_FEWEST_STEPS} or more",
            hint="let it train longer",
        )
    seen = Seen.of(history)
    signals = tuple(evidence(seen))
    verdict = judge_warmup(signals, seen.warmup / num_steps)
    without = verdict == "right" and not seen.warmup
    diagnosis = WarmupDiagnosis(
        verdict=verdict,
        sentence="There was no warmup, and none was needed." if without else _SENTENCES[verdict],
        advice=advise(verdict, seen, signals),
        warmup_steps=seen.warmup,
        num_steps=num_steps,
        peak_rate=seen.steps.peak_rate,
        evidence=signals,
    )
    return DiagnosedWarmup(diagnosis, seen)


def judge_warmup(signals: Sequence[Signal], warmup_share: float) -> Kind:
    """Decide from the signals.

    Args:
        signals: what the log shows.
        warmup_share: the warmup's share of the steps; 0 without one.
    """
    findings = [signal.finding for signal in signals]
    diverged = any(signal.name == "divergence" for signal in signals)
    unstable = {signal.name for signal in signals if signal.finding == "unstable"}
    if diverged or len(unstable) >= _ENOUGH:
        if not warmup_share:
            return "missing"
        stuck = max((one.value or 0.0 for one in signals if one.name == "stagnation"), default=0.0)
        ruined = diverged or stuck >= _RUINED
        return "rate too high" if warmup_share >= (_SOME if ruined else _LONG) else "too short"
    if not warmup_share:
        return "right"
    if "gentle" in findings:
        return "unneeded"
    return "too long" if "slow" in findings else "right"


def advise(verdict: Kind, seen: Seen, signals: Sequence[Signal]) -> str:
    """Return one sentence that can be followed."""
    plan, num_steps = seen.history.plan, len(seen.steps)
    match verdict:
        case "missing" | "too short":
            violent = any(one.name == "update ratio" and one.finding == "unstable" for one in signals)
            share = _PROPOSED_VIOLENT if violent else _PROPOSED
            total = max(num_steps, plan.total_steps)
            wanted = min(max(share * total, 2.0 * seen.warmup), _MOST * total)
            return f"Train with --warmup {as_length(wanted, plan.batches_per_epoch)}."
        case "too long":
            wanted = min(_PROPOSED * num_steps, seen.warmup / 2)
            return f"Train with --warmup {as_length(wanted, plan.batches_per_epoch)}."
        case "unneeded":
            return "Train with --warmup none."
        case "rate too high":
            onset = min((spike.start for spike in seen.early_spikes), default=seen.warmup)
            return f"Train with --lr {stable_rate(seen, onset):.2g}."
        case "right":
            asked = plan.settled.warmup
            length = "none" if not seen.warmup else "auto" if asked.shape == "adaptive" else str(asked.length)
            return f"Keep --warmup {length}."


def as_length(num_steps: float, steps_per_epoch: int) -> str:
    """Write a number of steps as people would ask for it: whole epochs, or steps where it is less than one."""
    epochs = round(num_steps / steps_per_epoch)
    return f"{epochs}ep" if epochs else f"{max(1, round(num_steps))}it"


def stable_rate(seen: Seen, onset: int) -> float:
    """Return half the rate at which the loss first jumped, and at most a third of the peak."""
    return min(float(seen.steps.rate[onset]) / 2, seen.steps.peak_rate / 3)
