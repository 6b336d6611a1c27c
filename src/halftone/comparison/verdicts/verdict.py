"""What a comparison shows: each variant against the baseline, in numbers and in a sentence."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from halftone.comparison.records import (
    Agreement,
    CompareConfig,
    Equivalence,
    Interval,
    Measure,
    Outcome,
    Ratio,
    Variant,
    Verdict,
    VerdictKind,
)
from halftone.comparison.verdicts.agreement import Predicted, agreement
from halftone.comparison.verdicts.methods import methods_of
from halftone.comparison.verdicts.pairing import Pair, differences_of, finished_pairs, seconds_to, step_of
from halftone.comparison.verdicts.sentence import sentence_of
from halftone.comparison.verdicts.sequential import level, num_looks, of_complete_seeds
from halftone.comparison.verdicts.statistics import bonferroni, equivalence, holm, paired_interval, ratio_of
from halftone.comparison.verdicts.wording import relation_of, short_names

Predictions = Callable[[str, int], Predicted | None]
"""From variant and seed to label and prediction of each validation image; None where they are not known."""


class _Evidence(NamedTuple):
    """What there is of one variant."""

    variant: str
    statuses: frozenset[str]
    """Of its runs."""
    pairs: tuple[Pair, ...]
    difference: Interval | None
    equivalence: Equivalence | None


def judge(
    variants: Sequence[Variant],
    outcomes: Iterable[Outcome],
    config: CompareConfig,
    *,
    target: float | None = None,
    predictions: Predictions | None = None,
) -> tuple[Verdict, ...]:
    """Judge every variant against the first one.

    Runs of one seed are paired; only pairs where both finished count for differences and ratios. With `until: decided`
    only seeds that are complete count.

    Args:
        variants: the first one is the baseline.
        outcomes: of all runs so far.
        config: measure, margin, confidence, and how often is looked.
        target: the accuracy to which time is taken; None leaves that out.
        predictions: of single images, for the agreement; None leaves it out.
    """
    outcomes = of_complete_seeds(variants, outcomes) if config.until == "decided" else tuple(outcomes)
    names = short_names(variants)
    baseline, *others = (variant.name for variant in variants)
    alpha = level(config) / max(1, len(others))
    evidence = [_evidence(name, baseline, outcomes, config, alpha) for name in others]
    verdicts = []
    for one in _corrected(evidence, config):
        verdict = _numbers(one, baseline, config, target, predictions)
        sentence = sentence_of(verdict, names, outcomes, one.pairs, target)
        methods = methods_of(verdict, config, num_verdicts=len(others), device_memory=_on_device(one.pairs))
        verdicts.append(verdict.replaced(sentence=sentence, methods=methods))
    return tuple(verdicts)


def _evidence(
    variant: str, baseline: str, outcomes: Sequence[Outcome], config: CompareConfig, alpha: float
) -> _Evidence:
    """Gather the pairs of a variant and test them at its share of the level; p-values are not yet corrected."""
    pairs = finished_pairs(variant, baseline, outcomes)
    differences, step = differences_of(pairs, config.measure), step_of(pairs, config.measure)
    return _Evidence(
        variant=variant,
        statuses=frozenset(one.status for one in outcomes if one.variant == variant),
        pairs=pairs,
        difference=paired_interval(differences, 1 - alpha, step=step),
        equivalence=equivalence(differences, config.margin / 100, alpha, step=step),
    )


def _corrected(evidence: Sequence[_Evidence], config: CompareConfig) -> list[_Evidence]:
    """Correct the p-values for the number of verdicts and of looks.

    Differences by Bonferroni, in step with their intervals; equivalences, which have none, by Holm. A verdict without a
    p-value counts as one that shows nothing.
    """
    looks = num_looks(config)
    found = [one.equivalence.p_value if one.equivalence is not None else None for one in evidence]
    p_values = [1.0 if p_value is None else p_value for p_value in found]
    return [
        one
        if one.difference is None or one.equivalence is None
        else one._replace(
            difference=_with_p_value(one.difference, len(evidence) * looks),
            equivalence=_shown_by(one.equivalence, bonferroni(p_value, looks), 1 - config.confidence),
        )
        for one, p_value in zip(evidence, holm(p_values), strict=True)
    ]


def _with_p_value(difference: Interval, num_tests: int) -> Interval:
    if difference.p_value is None:
        return difference
    return difference.replaced(p_value=bonferroni(difference.p_value, num_tests))


def _shown_by(found: Equivalence, p_value: float, alpha: float) -> Equivalence:
    shown = found.shown or p_value <= alpha
    return found.replaced(p_value=p_value, shown=shown, num_more=0 if shown else found.num_more)


def _numbers(
    one: _Evidence, baseline: str, config: CompareConfig, target: float | None, predictions: Predictions | None
) -> Verdict:
    """Return a verdict without its words."""
    return Verdict(
        variant=one.variant,
        baseline=baseline,
        measure=config.measure,
        kind=_kind(one, config.measure),
        sentence="",
        difference=one.difference,
        equivalence=one.equivalence,
        agreement=None if predictions is None else _agreement(one.pairs, predictions),
        seconds=ratio_of((pair.ours.train_seconds, pair.theirs.train_seconds) for pair in one.pairs),
        seconds_to_target=None
        if target is None
        else ratio_of((seconds_to(target, pair.ours), seconds_to(target, pair.theirs)) for pair in one.pairs),
        memory=_memory(one.pairs),
        joules=ratio_of((pair.ours.joules, pair.theirs.joules) for pair in one.pairs),
    )


def _kind(one: _Evidence, measure: Measure) -> VerdictKind:
    if "diverged" in one.statuses:
        return "diverges"
    if "failed" in one.statuses:
        return "failed"
    if one.difference is None or one.equivalence is None:
        return "too few"
    return relation_of(one.difference, one.equivalence, measure)


def _agreement(pairs: Iterable[Pair], predictions: Predictions) -> Agreement | None:
    return agreement(
        (predictions(pair.ours.variant, pair.ours.seed), predictions(pair.theirs.variant, pair.theirs.seed))
        for pair in pairs
    )


def _on_device(pairs: Iterable[Pair]) -> bool:
    return any(pair.ours.device_memory_mb and pair.theirs.device_memory_mb for pair in pairs)


def _memory(pairs: Sequence[Pair]) -> Ratio | None:
    if _on_device(pairs):
        return ratio_of((pair.ours.device_memory_mb, pair.theirs.device_memory_mb) for pair in pairs)
    return ratio_of((pair.ours.peak_memory_mb, pair.theirs.peak_memory_mb) for pair in pairs)
