"""Which method stands behind each number of a verdict, a sentence each."""

from collections.abc import Iterator

from halftone.comparison.records import CompareConfig, Verdict
from halftone.comparison.verdicts.pairing import COUNTED_IN_IMAGES
from halftone.comparison.verdicts.sequential import FIRST_LOOK, num_looks
from halftone.comparison.verdicts.statistics import POWER
from halftone.comparison.verdicts.wording import margin_text, percent


def methods_of(verdict: Verdict, config: CompareConfig, *, num_verdicts: int, device_memory: bool) -> tuple[str, ...]:
    """Name the methods of those numbers that a verdict has.

    Args:
        verdict: with its numbers.
        config: of the comparison.
        num_verdicts: all of the comparison, for which its level is corrected.
        device_memory: whether the memory is that of the accelerator.
    """
    return (
        *_of_difference(verdict, config),
        *(_of_corrections(config, num_verdicts) if verdict.difference is not None else ()),
        *_of_agreement(verdict),
        *_of_ratios(verdict, device_memory),
    )


def _of_difference(verdict: Verdict, config: CompareConfig) -> Iterator[str]:
    if verdict.difference is None or verdict.equivalence is None:
        return
    yield (
        "Difference: the mean over seeds of variant less baseline, each with its best weights on the validation "
        f"images, where both runs finished; {percent(verdict.difference.confidence)} interval and two-sided p-value by "
        "Student's t. They cover chance between seeds, not the choice of the validation images."
    )
    margin = margin_text(verdict.equivalence.margin, verdict.measure)
    yield (
        f"Equivalence: two one-sided t tests of a difference within {margin} (Schuirmann 1987), at a level of "
        f"{percent(1 - config.confidence)}. It comes before `better` and `worse`: a "
        "difference within the margin counts as none, also where it is measurable."
    )
    if verdict.equivalence.num_more:
        yield (
            f"Further seeds: until these tests have a power of {percent(POWER)}, if mean and spread stay as they are "
            "(Phillips 1990); from few seeds this is a rough guess."
        )
    if verdict.difference.deviation == 0 and verdict.measure in COUNTED_IN_IMAGES:
        yield (
            "All differences are equal, as coarse numbers often are: the spread is taken as that of rounding to one "
            "image, 1 / sqrt(12) of it (Sheppard 1898)."
        )


def _of_corrections(config: CompareConfig, num_verdicts: int) -> Iterator[str]:
    error = percent(1 - config.confidence)
    if num_verdicts > 1:
        yield (
            f"{num_verdicts} variants are judged: intervals and p-values of differences are corrected by Bonferroni, "
            "p-values of equivalence by Holm (1979), so that the chance of one or more false differences is at most "
            f"{error}, and that of one or more false equivalences, too."
        )
    looks = num_looks(config)
    if looks > 1:
        yield (
            f"Looked at after each seed from {FIRST_LOOK} to {config.seeds}: each of the {looks} looks is held to "
            f"1/{looks} of the level, which is spent evenly (Lan and DeMets 1983; Bonferroni), so that the error stays "
            f"at most {error} wherever the comparison stops. The p-values are multiplied by {looks}."
        )


def _of_agreement(verdict: Verdict) -> Iterator[str]:
    if verdict.agreement is not None:
        yield (
            "Agreement: images counted over all pairs of runs; the p-value is McNemar's exact test (1947) of the first "
            "pair only, since the same images under several seeds are not independent."
        )


def _of_ratios(verdict: Verdict, device_memory: bool) -> Iterator[str]:
    if any((verdict.seconds, verdict.seconds_to_target, verdict.memory, verdict.joules)):
        yield (
            "Times, memory and energy: the median of the ratios pair by pair; in brackets the smallest and the "
            "largest, a range and not an interval. Speed is of training alone, without start-up, evaluation and saving."
        )
    if verdict.seconds_to_target is not None:
        yield "Time to the target: until the end of the first epoch that reaches it, evaluation and saving included."
    if verdict.memory is not None:
        yield f"Memory: the peak of the {'accelerator' if device_memory else 'process'}."
