"""The sentence of a verdict: the whole of it in plain words, with its figures."""

from collections.abc import Iterator, Mapping, Sequence

from halftone.comparison.records import Outcome, Verdict
from halftone.comparison.verdicts.pairing import Pair, measured
from halftone.comparison.verdicts.wording import (
    WORDS,
    amount,
    capitalised,
    clause,
    counted,
    faults_text,
    relation_of,
    share_text,
    signed,
    speed_text,
    unit,
)


def sentence_of(
    verdict: Verdict, names: Mapping[str, str], outcomes: Sequence[Outcome], pairs: Sequence[Pair], target: float | None
) -> str:
    """Tell a verdict.

    Args:
        verdict: with its numbers.
        names: short ones, by the names of the variants.
        outcomes: of all runs.
        pairs: of this variant with the baseline.
        target: the accuracy to which time was taken.
    """
    ours, theirs = names[verdict.variant], names[verdict.baseline]
    our_faults = faults_text([one for one in outcomes if one.variant == verdict.variant], reason=True)
    their_faults = faults_text([one for one in outcomes if one.variant == verdict.baseline], reason=not our_faults)
    relation = _relation(verdict, ours, theirs)
    costs = ", ".join(_costs(verdict, len(pairs), target))
    if our_faults:
        parts = [f"{ours} {our_faults}; {theirs} {their_faults or 'finishes all of its runs'}."]
        parts += [f"In the {len(pairs)} pairs that finished, {relation}."] if relation else []
    elif verdict.kind in ("equivalent", "better", "worse") and costs:
        parts, costs = [f"{relation}, {costs}."], ""
    else:
        parts = [f"{capitalised(relation or _too_few(verdict, ours, theirs, pairs))}."]
    if costs:
        parts.append(f"Beside {theirs}: {costs}.")
    if their_faults and not our_faults:
        rest = "only pairs that finished count" if pairs else f"{ours} finishes all of its runs"
        parts.append(f"The baseline {theirs} {their_faults}; {rest}.")
    return " ".join(parts)


def _relation(verdict: Verdict, ours: str, theirs: str) -> str:
    """Say how both stand to each other; empty where too few pairs have finished."""
    if verdict.difference is None or verdict.equivalence is None:
        return ""
    kind = relation_of(verdict.difference, verdict.equivalence, verdict.measure)
    return clause(kind, ours, theirs, verdict.measure, verdict.difference, verdict.equivalence)


def _too_few(verdict: Verdict, ours: str, theirs: str, pairs: Sequence[Pair]) -> str:
    measure, words = verdict.measure, WORDS[verdict.measure]
    values = [(measured(pair.ours, measure), measured(pair.theirs, measure)) for pair in pairs]
    for mine, other in values:
        if mine is not None and other is not None:
            return (
                f"whether {ours} {words.same} {theirs} cannot be told from one seed ({words.noun} "
                f"{amount(mine, measure)} against {amount(other, measure)}, difference "
                f"{signed(mine - other, measure)} {unit(measure)}): one pair cannot tell chance from effect"
            )
    return f"whether {ours} {words.same} {theirs} cannot be told: no seed has finished with both"


def _costs(verdict: Verdict, num_pairs: int, target: float | None) -> Iterator[str]:
    if verdict.seconds is not None:
        yield speed_text(verdict.seconds)
    if verdict.seconds_to_target is not None and target is not None:
        part = verdict.seconds_to_target.num_pairs
        where = f" in {part} of {counted(num_pairs, 'pair')}" if part < num_pairs else ""
        yield f"{100 * target:.2f} % reached in {share_text(verdict.seconds_to_target, 'time')}{where}"
    if verdict.memory is not None:
        yield share_text(verdict.memory, "memory")
    if verdict.joules is not None:
        yield share_text(verdict.joules, "energy")
