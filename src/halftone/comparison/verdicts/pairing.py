"""From the outcomes of runs to pairs of one seed, and to what is compared of them."""

from collections.abc import Iterable
from typing import NamedTuple

from halftone.comparison.records import CompareConfig, Measure, Outcome

COUNTED_IN_IMAGES: tuple[Measure, ...] = ("accuracy", "precision", "recall", "f1")
"""Measures that change in steps, of about one image among all."""
_LEARNED = 1.5
"""Times the accuracy of guessing that a run has to reach before it counts as having learned something."""


class Pair(NamedTuple):
    """Two finished runs of one seed."""

    ours: Outcome
    theirs: Outcome
    """Of the baseline."""


def finished_pairs(variant: str, baseline: str, outcomes: Iterable[Outcome]) -> tuple[Pair, ...]:
    """Pair the runs of two variants by seed, in the order of the seeds; both must have finished."""
    finished = {(one.variant, one.seed): one for one in outcomes if one.status == "finished"}
    seeds = sorted(seed for name, seed in finished if name == variant and (baseline, seed) in finished)
    return tuple(Pair(finished[variant, seed], finished[baseline, seed]) for seed in seeds)


def measured(outcome: Outcome, measure: Measure) -> float | None:
    """Return what is judged of a run: a measure of its best weights; None where it has none."""
    found: float | None = getattr(outcome.metrics, measure) if outcome.metrics is not None else None
    return found


def differences_of(pairs: Iterable[Pair], measure: Measure) -> list[float]:
    """Return variant less baseline for each pair that has the measure in both."""
    values = [(measured(pair.ours, measure), measured(pair.theirs, measure)) for pair in pairs]
    return [ours - theirs for ours, theirs in values if ours is not None and theirs is not None]


def step_of(pairs: Iterable[Pair], measure: Measure) -> float:
    """Return the step in which a measure can change, one image of all; 0 for those that change smoothly."""
    sizes = [run.metrics.num_images for pair in pairs for run in pair if run.metrics and run.metrics.num_images]
    return 1 / min(sizes) if sizes and measure in COUNTED_IN_IMAGES else 0.0


def auto_target(outcomes: Iterable[Outcome]) -> float | None:
    """Return the highest validation accuracy that every finished run reaches in some epoch.

    None where there is none, or where one of the runs has learned next to nothing: the time to what a guess reaches
    says nothing.
    """
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    found = [
        max((point.val_accuracy for point in outcome.epochs if point.val_accuracy is not None), default=None)
        for outcome in finished
    ]
    best = [accuracy for accuracy in found if accuracy is not None]
    if not best or len(best) < len(found):
        return None
    return min(best) if min(best) > _LEARNED * max(map(_guessed, finished)) else None


def _guessed(outcome: Outcome) -> float:
    """Return the accuracy of always saying the most frequent class."""
    if outcome.metrics is None or not outcome.metrics.classes:
        return 0.0
    return max(one.support for one in outcome.metrics.classes) / outcome.metrics.num_images


def target_of(config: CompareConfig, outcomes: Iterable[Outcome]) -> float | None:
    """Return the accuracy to which time is taken: the one that was asked for, or what every run reaches."""
    return auto_target(outcomes) if config.target == "auto" else config.target


def seconds_to(target: float, outcome: Outcome) -> float | None:
    """Return the seconds until the end of the first epoch whose validation accuracy reaches a target, or None."""
    reached = (
        point.seconds for point in outcome.epochs if point.val_accuracy is not None and point.val_accuracy >= target
    )
    return next(reached, None)
