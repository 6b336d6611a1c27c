"""The words of a verdict: names, numbers with their units, sentences."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from halftone.comparison.records import (
    HIGHER_IS_BETTER,
    SHARES,
    Equivalence,
    Interval,
    Measure,
    Outcome,
    Ratio,
    Variant,
    VerdictKind,
)
from halftone.comparison.verdicts.statistics import MOST_PAIRS

_UNCLEAR_ALONE = ("none", "yes", "no", "on", "off", "true", "false")
_NEARLY_EQUAL = 0.1
"""Ratios that are all within this of one are told as equal, if they lie on both sides of it."""


class Words(NamedTuple):
    """How two variants are set beside each other in one measure; each goes between their names, or behind `though`."""

    noun: str
    same: str
    better: str
    worse: str
    slightly_better: str
    slightly_worse: str


def _of_classes(noun: str) -> Words:
    """Return the words for a mean over the classes."""
    return Words(
        noun,
        f"has as high a mean {noun} of the classes as",
        f"has a higher mean {noun} of the classes than",
        f"has a lower mean {noun} of the classes than",
        "with a measurably higher one",
        "with a measurably lower one",
    )


WORDS: dict[Measure, Words] = {
    "accuracy": Words(
        "accuracy",
        "is as accurate as",
        "is more accurate than",
        "is less accurate than",
        "measurably more accurate",
        "measurably less accurate",
    ),
    "loss": Words(
        "loss",
        "reaches as low a loss as",
        "reaches a lower loss than",
        "reaches a higher loss than",
        "with a measurably lower loss",
        "with a measurably higher loss",
    ),
    "calibration_error": Words(
        "calibration error",
        "is as well calibrated as",
        "is better calibrated than",
        "is worse calibrated than",
        "measurably better calibrated",
        "measurably worse calibrated",
    ),
    "precision": _of_classes("precision"),
    "recall": _of_classes("recall"),
    "f1": _of_classes("F1"),
}


def short_names(variants: Sequence[Variant]) -> dict[str, str]:
    """Return a short name for each variant, by its name.

    If all of them vary one and the same setting, that is the bare value: `bf16` for `precision=bf16`. Values that say
    nothing alone, such as `none` or `0.1`, keep their setting.
    """
    changes = [list(variant.changes.items()) for variant in variants]
    if all(len(change) == 1 for change in changes) and len({change[0][0] for change in changes}) == 1:
        values = [change[0][1] for change in changes]
        speaking = all(value[:1].isalpha() and value.lower() not in _UNCLEAR_ALONE for value in values)
        if speaking and len(set(values)) == len(values):
            return {variant.name: value for variant, value in zip(variants, values, strict=True)}
    return {variant.name: variant.name for variant in variants}


def amount(value: float, measure: Measure) -> str:
    """Write a value of a measure: `97.13 %`, or a loss as `0.0912`."""
    return f"{100 * value:.2f} %" if measure in SHARES else _nats(value)


def margin_text(margin: float, measure: Measure) -> str:
    """Write a margin, given in the unit of the measure: `0.5 points`, or `0.005 nats` of a loss."""
    return f"{100 * margin:g} points" if measure in SHARES else f"{margin:g} nats"


def difference_text(difference: Interval, measure: Measure) -> str:
    """Write a difference: `-0.03 points, 95 % interval -0.21 to +0.15, 5 seeds`."""
    return (
        f"{signed(difference.mean, measure)} {unit(measure)}, "
        f"{percent(difference.confidence)} interval {signed(difference.low, measure)} to "
        f"{signed(difference.high, measure)}, {difference.num_pairs} seeds"
    )


def unit(measure: Measure) -> str:
    """Return the unit of a difference."""
    return "points" if measure in SHARES else "nats"


def signed(difference: float, measure: Measure) -> str:
    """Write a difference with its sign, without the unit: points of a share, or nats of the loss."""
    text = f"{100 * difference:+.2f}" if measure in SHARES else _nats(difference, sign="+")
    return text.replace("-", "+") if float(text) == 0 else text


def percent(share: float) -> str:
    """Write a confidence or level: `95 %`, `98.3 %`; never rounded up to 100 %."""
    digits = next((digits for digits in range(1, 12) if round(100 * share, digits) < 100), 12)
    return f"{round(100 * share, digits):g} %"


def speed_text(seconds: Ratio) -> str:
    """Write a ratio of times as a speed: `2.1 times as fast (2.0 to 2.2)`."""
    speed = Ratio(
        median=1 / seconds.median, low=1 / seconds.high, high=1 / seconds.low, num_pairs=seconds.num_pairs
    )  # fmt: skip
    middle, low, high = _ratio_numbers(speed)
    if speed.num_pairs < 2:
        return f"{middle} times as fast"
    if low == middle == high:
        return "as fast" if middle == "1.00" else f"{middle} times as fast"
    if not speed.low <= 1 <= speed.high:
        return f"{middle} times as fast ({low} to {high})"
    if speed.low > 1 - _NEARLY_EQUAL and speed.high < 1 + _NEARLY_EQUAL:
        return f"as fast ({middle} times, {low} to {high})"
    return f"neither faster nor slower beyond the noise ({middle} times as fast, {low} to {high})"


def share_text(ratio: Ratio, of: str) -> str:
    """Write a ratio as a part: `0.57 of the memory`, with its range where it has one."""
    middle, low, high = _ratio_numbers(ratio)
    spread = "" if low == middle == high else f" ({low} to {high})"
    return f"as much {of}" if middle == "1.00" and not spread else f"{middle} of the {of}{spread}"


def clause(
    kind: VerdictKind, ours: str, theirs: str, measure: Measure, difference: Interval, equivalence: Equivalence
) -> str:
    """Say how two variants stand to each other, without a full stop."""
    words = WORDS[measure]
    told = f"(difference {difference_text(difference, measure)})"
    if kind == "not shown":
        return f"whether {ours} {words.same} {theirs} is not shown {told}: {_outlook(difference, equivalence, measure)}"
    if kind == "better":
        return f"{ours} {words.better} {theirs} {told}"
    if kind == "worse":
        return f"{ours} {words.worse} {theirs} {told}"
    within = ""
    if _excludes_zero(difference):
        slightly = words.slightly_better if is_better(difference, measure) else words.slightly_worse
        within = f" within {margin_text(equivalence.margin, measure)}, though {slightly}"
    return f"{ours} {words.same} {theirs}{within} {told}"


def relation_of(difference: Interval, equivalence: Equivalence, measure: Measure) -> VerdictKind:
    """Tell how two variants stand to each other; within the margin comes first, since that counts as no difference."""
    if equivalence.shown:
        return "equivalent"
    if _excludes_zero(difference):
        return "better" if is_better(difference, measure) else "worse"
    return "not shown"


def is_better(difference: Interval, measure: Measure) -> bool:
    """Tell whether a mean difference is in the good direction; of losses and calibration errors that is down."""
    return difference.mean > 0 if measure in HIGHER_IS_BETTER else difference.mean < 0


def _excludes_zero(difference: Interval) -> bool:
    return difference.low > 0 or difference.high < 0


def _outlook(difference: Interval, equivalence: Equivalence, measure: Measure) -> str:
    """Say what more seeds would do."""
    margin = margin_text(equivalence.margin, measure)
    if equivalence.num_more is not None:
        return f"about {counted(equivalence.num_more, 'more seed')} would show it within {margin}"
    if abs(difference.mean) < equivalence.margin:
        return f"not even {MOST_PAIRS:,} more seeds would show it within {margin}, at this spread"
    direction = "better" if is_better(difference, measure) else "worse"
    return (
        f"if the difference stays, no number of seeds would, since it is not within the margin of {margin}; "
        f"more seeds could only show that it is {direction}"
    )


def faults_text(runs: Iterable[Outcome], *, reason: bool = False) -> str:
    """Say how many runs of a variant did not finish: `diverges in 2 of 5 runs, fails in 1`; empty if all did."""
    runs = list(runs)
    diverged = sum(run.status == "diverged" for run in runs)
    failed = [run for run in runs if run.status == "failed"]
    of_runs = f" of {counted(len(runs), 'run')}"
    parts = []
    if diverged:
        parts.append(f"diverges in {diverged}{of_runs}")
    if failed:
        why = f" ({failed[0].fault.rstrip('.')})" if reason and failed[0].fault else ""
        parts.append(f"fails in {len(failed)}{'' if parts else of_runs}{why}")
    return ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capitalised(sentence: str) -> str:
    """Begin with a capital, but leave a name such as `bf16` as it is."""
    return sentence[0].upper() + sentence[1:] if sentence.startswith("whether ") else sentence


def _nats(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}" if abs(value) < 1000 else f"{value:{sign}.3g}"


def _ratio_numbers(ratio: Ratio) -> tuple[str, str, str]:
    """Write median, low and high with the digits that suit the median."""
    digits = next(
        (digits for digits, limit in ((4, 0.01), (3, 0.095), (2, 1.95), (1, 9.95)) if ratio.median < limit), 0
    )
    return f"{ratio.median:.{digits}f}", f"{ratio.low:.{digits}f}", f"{ratio.high:.{digits}f}"
