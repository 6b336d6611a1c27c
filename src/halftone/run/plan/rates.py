"""What measured rates mean for a plan: pure functions from measurements to decisions."""

from halftone.base.lengths import Span
from halftone.run.plan.decide import Decision
from halftone.run.plan.record import MeasuredRates, Plan

FEWEST_STEPS = 300
"""Optimizer steps of a run that is worth measuring for."""
FEWEST_POINTS, MOST_POINTS = 40, 100
"""Steps of a range test within a plan."""
_SHARE_OF_RUN = 0.06
"""Of the run's steps, what a range test may take."""
_BRIDGED = 4.0
"""A peak may lie this many times above the edge of a range test: the test has no warmup, the run has one."""
_LOWERED = 2.0
"""Times the edge, where the rule gives way to."""
_FAR_BELOW = 4.0
"""A rule this many times below the suggestion gives way, too, to the bound."""
_SAFE = 0.5
"""Of the critical rate, with which a warmup begins: batches differ, and the next one may stand less."""
_HIGHEST_START = 0.5
"""A warmup begins at half the peak at most: what the first step stands says little of the hundredth."""
_LOWEST_START = 1e-4
_LEAST_WARMUP = 5
"""Steps."""


def obstacle(plan: Plan, *, fetch: bool) -> str:
    """Say why nothing is measured for a plan; nothing if something is.

    Args:
        plan: by rule.
        fetch: whether published weights are there.
    """
    if not plan.settled.optimizer.probe_seconds:
        return "optimizer.probe_seconds is 0"
    if plan.total_steps < FEWEST_STEPS:
        return f"a run of {plan.total_steps} steps is too short to measure for"
    if plan.settled.weights.pretrained and not fetch:
        return "the published weights are not there yet"
    return ""


def range_steps(total_steps: int) -> int:
    """Choose the number of steps of a range test for a run."""
    return min(MOST_POINTS, max(FEWEST_POINTS, round(_SHARE_OF_RUN * total_steps)))


def guarded_rate(rule: Decision[float], measured: MeasuredRates, *, has_weights: bool) -> Decision[float]:
    """Check a rate that was chosen by rule against the range in which the network was seen to train.

    A range test looks at some dozens of steps from the start, without a warmup, and says where training fails; the
    rule knows what is usual over a whole run. So the rule stays where both can be right, and the measurement
    wins where it is far off.

    Args:
        rule: the rate and its reason.
        measured: of the network.
        has_weights: whether it is trained already; then the rule is low so as not to undo that, and stays so.
    """
    tested = f"a range test of {measured.num_steps} steps"
    limit = stable_limit(measured)
    if measured.edge is not None and limit is not None and rule.value > limit:
        return Decision(
            _rounded(_LOWERED * measured.edge),
            f"{_LOWERED:g} times the rate from which on {tested} sees the loss rise, {measured.edge:.2g}; by rule it "
            f"would be {rule.value:g} ({rule.reason}), too far above",
        )
    if measured.suggestion is None:
        return Decision(rule.value, f"{rule.reason}; in {tested}, the loss fell at no rate")
    if measured.suggestion > _FAR_BELOW * rule.value and not has_weights:
        return Decision(
            _rounded(measured.suggestion / _FAR_BELOW),
            f"a quarter of what {tested} suggests, {measured.suggestion:.2g}; by rule it would be {rule.value:g} "
            f"({rule.reason}), far below",
        )
    if measured.edge is None:
        return Decision(rule.value, f"{rule.reason}; {tested} finds all rates up to {measured.highest:.2g} stable")
    if rule.value > measured.edge:
        seen = f"sees the loss rise from {measured.edge:.2g} on without a warmup, near enough for a run with one"
        return Decision(rule.value, f"{rule.reason}; {tested} {seen}")
    return Decision(rule.value, f"{rule.reason}; {tested} finds it stable, up to {measured.edge:.2g}")


def stable_limit(measured: MeasuredRates) -> float | None:
    """Return the largest peak that a range test supports for a run with a warmup, or None if it found no edge."""
    return None if measured.edge is None else _BRIDGED * measured.edge


def first_share(critical: float, peak: float, *, end: float) -> Decision[float]:
    """Choose where a warmup starts, as a share of the peak.

    Args:
        critical: the critical rate.
        peak: the peak rate.
        end: the last share of the warmup.
    """
    wanted = _SAFE * critical / peak
    share = float(f"{max(_LOWEST_START, min(wanted, _HIGHEST_START, end)):.3g}")
    measured = f"the first step stands rates up to {critical:.2g} (critical rate, measured)"
    if wanted > _HIGHEST_START:
        return Decision(share, f"{measured}, {critical / peak:.2g} times the peak; half of the peak at most")
    return Decision(share, f"{measured}; half of that, as a share of the peak")


def shortened_warmup(steps: int, start: float) -> Decision[Span]:
    """Shorten a warmup that does not start at zero: it has less to rise (Kalra and Barkeshli 2024).

    Args:
        steps: of the warmup by rule.
        start: its first share of the peak.
    """
    left = max(round(steps * (1 - start)), min(_LEAST_WARMUP, steps))
    return Decision(Span(left, "it"), f"{steps} steps by rule, less the share that it starts with")


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
