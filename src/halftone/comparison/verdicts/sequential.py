"""Early looks: when a comparison may stop, and what looking early costs.

Whoever looks after each seed and stops at the first clear verdict is wrong more often than the level says. So the level
is spent evenly over all looks that there can be, a linear spending function (Lan and DeMets 1983, "Discrete sequential
boundaries for clinical trials"), and each look is held to its own share. By Bonferroni's inequality the sum holds
however the looks hang together and whenever the comparison stops. They hang together closely, so the true error is
lower still; exact boundaries would need fewer seeds, but none are known for so few pairs without more assumptions.
"""

from collections.abc import Iterable, Sequence

from halftone.comparison.records import CompareConfig, Outcome, Variant, Verdict

FIRST_LOOK = 3
"""Complete seeds before the first look: with two, the spread is known too badly to decide anything."""


def num_looks(config: CompareConfig) -> int:
    """Return how often the verdicts can be looked at: once, or from the third seed on after each."""
    return max(1, config.seeds - FIRST_LOOK + 1) if config.until == "decided" else 1


def level(config: CompareConfig) -> float:
    """Return the chance of error that one look may take, for all of its verdicts together."""
    return (1 - config.confidence) / num_looks(config)


def of_complete_seeds(variants: Sequence[Variant], outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Return the outcomes of those seeds for which every variant has one, in their order."""
    outcomes = tuple(outcomes)
    known = {(outcome.variant, outcome.seed) for outcome in outcomes}
    return tuple(outcome for outcome in outcomes if all((variant.name, outcome.seed) in known for variant in variants))


def is_decided(variants: Sequence[Variant], outcomes: Iterable[Outcome], verdicts: Sequence[Verdict]) -> bool:
    """Tell whether a comparison may stop: at least three complete seeds, and every verdict clear.

    Clear is equivalent, better or worse, and also that no run of the variant, or of the baseline, has finished at all.

    Args:
        variants: the first one is the baseline.
        outcomes: what there is.
        verdicts: of these outcomes, from `judge` with `until: decided`.
    """
    complete = of_complete_seeds(variants, outcomes)
    if len({outcome.seed for outcome in complete}) < FIRST_LOOK or not verdicts:
        return False
    return all(_is_clear(verdict, complete) for verdict in verdicts)


def _is_clear(verdict: Verdict, outcomes: Sequence[Outcome]) -> bool:
    if verdict.kind in ("equivalent", "better", "worse"):
        return True
    finished = {outcome.variant for outcome in outcomes if outcome.status == "finished"}
    return not {verdict.variant, verdict.baseline} <= finished
