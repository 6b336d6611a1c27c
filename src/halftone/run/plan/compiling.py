"""What the times of steps, compiled and not, mean for a plan: pure functions from measurements to a decision."""

from halftone.base.records import Record
from halftone.precision.probe import GAIN
from halftone.run.plan.decide import Decision

SHORTEST = 300.0
"""Seconds of steps below which nothing is compiled to measure: compiling alone takes half a minute or more."""
RETURN = 2.0
"""Times the wait for the compiler that compiled steps must save: times scatter, and runs are stopped early."""


class StepTimes(Record):
    """Seconds of whole training steps, compiled and not."""

    eager: float
    """Median of the steps as PyTorch takes them."""
    compiled: float
    """Median of the compiled ones."""
    wait: float
    """What the first compiled steps take longer, because the network is compiled in them."""
    turns: int
    """Steps of each kind."""


def too_short(step: float, num_steps: int) -> str:
    """Say why a run is not worth compiling for, however fast its steps would be; nothing if it may be.

    Args:
        step: seconds that one takes, not compiled.
        num_steps: of the run.
    """
    seconds = step * num_steps
    return f"a run of about {_amount(seconds)} is too short to wait for a compiler" if seconds < SHORTEST else ""


def worth(times: StepTimes, num_steps: int) -> Decision[bool]:
    """Decide whether a run compiles its network: a step must gain, and all of them more than the compiler takes.

    Args:
        times: of its steps.
        num_steps: of the run.
    """
    gain = times.eager / times.compiled
    said = f"{_amount(times.compiled)} against {_amount(times.eager)}, medians of {times.turns} in turns"
    if gain < 1:
        return Decision(value=False, reason=f"a compiled step takes {1 / gain:.2f} times as long: {said}")
    if gain < GAIN:
        return Decision(value=False, reason=f"a compiled step is only {gain:.2f} times as fast: {said}")
    saved = (times.eager - times.compiled) * num_steps
    pays = saved >= RETURN * times.wait
    only = "" if pays else "only "
    account = f"{num_steps:,} steps save {only}{_amount(saved)}, and compiling takes {_amount(times.wait)}"
    return Decision(value=pays, reason=f"a compiled step is {gain:.2f} times as fast: {said}; {account}")


def _amount(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
