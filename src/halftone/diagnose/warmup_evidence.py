"""What the log of a run shows of its warmup, as sentences with their numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from halftone.base.records import Record
from halftone.diagnose.warmup_signals import (
    Spike,
    Steps,
    at_full_rate,
    at_peak,
    fall_below,
    norm_change,
    rising_together,
    slow_start,
    spikes,
    steps_to_learn,
)
from halftone.report.history import History

Finding = Literal["unstable", "slow", "gentle", "calm"]

VIOLENT, GENTLE, TINY = 0.09, 1e-3, 1e-4
"""Norm of an update over that of the weights, at the peak. Above the first, a few steps replace the weights; below the
second, no step is large enough for a warmup to matter; below the third, the rate itself is too small. The guide has the
runs that these are taken from."""
HARMLESS = 0.01
"""The same of updates within the warmup, had the rate been at its peak: below it, the peak could have come at once."""
_LOST, _HIGH = 0.03, 1.5
"""A spike counts if it costs this share of the run, or is this many times the loss before it."""
_NORM_CHANGE = 3.0
"""A gradient norm that rises or falls by this factor says that the network was thrown elsewhere."""
_STUCK = 0.05
"""Share of the run in which nothing is learned, though the rate is high."""
_BELOW_HALF, _LEARNED_THERE = 0.15, 0.5
"""A calm warmup is too long if this share of the run is spent below half the peak, and this share of what is learned is
learned there: those rates were enough, and larger ones were not tried for long."""
_SLOW, _FASTER = 0.1, 3.0
"""Or if this share of the run is spent while the loss falls so many times slower than later."""
_EARLY = 20
"""The fewest steps that are looked at."""


class Signal(Record):
    """One thing that the log shows."""

    name: str
    value: float | None
    """The number behind it; None where it is not finite."""
    finding: Finding
    """`unstable`: the rate was too large for the network at that time; `slow`: too small for too long; `gentle`: too
    small for a warmup to matter; `calm`: nothing to do."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A run's log as columns, and where in it to look."""

    history: History
    steps: Steps
    warmup: int
    """Steps before the rate is at its peak; 0 without a warmup."""
    spikes: tuple[Spike, ...]
    learning_from: int | None
    """The step from which on the loss stays below its start; None if it never does."""

    @classmethod
    def of(cls, history: History) -> "Seen":
        """Look at a run."""
        steps = Steps.of(history.steps)
        warmup = steps.peak_step if history.plan.warmup_steps else 0
        return cls(history, steps, warmup, tuple(spikes(steps.loss)), steps_to_learn(steps.loss))

    @property
    def early(self) -> int:
        """The steps that the warmup answers for: its own, and as many at the peak, a tenth of the run at least."""
        return min(len(self.steps), self.warmup + max(self.warmup, len(self.steps) // 10, _EARLY))

    @property
    def early_spikes(self) -> tuple[Spike, ...]:
        """The spikes among them."""
        return tuple(spike for spike in self.spikes if spike.start < self.early)

    def place(self, step: int) -> str:
        """Name a step by its number and its rate."""
        rate = float(self.steps.rate[step])
        return f"step {step + 1} (rate {rate:.3g}, {rate / self.steps.peak_rate:.0%} of the peak)"


def evidence(seen: Seen) -> Iterator[Signal]:
    """Yield all that the log shows of the warmup and of the first steps at the peak."""
    yield from _of_spikes(seen)
    yield from _of_skipped(seen)
    yield from _of_updates(seen)
    yield from _of_held_back_updates(seen)
    yield from _of_gradients(seen)
    yield from _of_learning(seen)
    yield from _of_low_rates(seen)
    yield from _of_epochs(seen)
    yield from _of_decisions(seen)
    yield from _of_measured_rates(seen)
    yield from _of_the_end(seen)


def _of_spikes(seen: Seen) -> Iterator[Signal]:
    num_steps = len(seen.steps)
    if not seen.early_spikes:
        yield Signal(
            name="loss spikes", value=1.0, finding="calm", sentence="the loss did not jump up to the peak or at it"
        )
    for spike in seen.early_spikes:
        lost = spike.lost(num_steps)
        counts = lost >= _LOST * num_steps or spike.height >= _HIGH
        back = f"took {lost} steps to come back" if spike.end is not None else "never came back"
        yield Signal(
            name="loss spikes",
            value=spike.height,
            finding="unstable" if counts else "calm",
            sentence=f"at {seen.place(spike.start)} the loss jumped to {spike.height:.3g} times what it was "
            f"(z = {spike.z:.0f}) and {back}",
        )


def _of_skipped(seen: Seen) -> Iterator[Signal]:
    count = int(seen.steps.skipped[: seen.early].sum())
    if count:
        # the first steps in fp16 are the search for the loss scale
        scaled = any(value is not None for value in seen.history.steps.get("loss_scale", []))
        yield Signal(
            name="skipped steps",
            value=count,
            finding="calm" if scaled and count <= 5 else "unstable",
            sentence=f"{count} of the first {seen.early} steps were skipped, their gradients were not finite",
        )


def _of_updates(seen: Seen) -> Iterator[Signal]:
    ratio = at_peak(seen.steps.update_ratio, seen.warmup)
    if ratio is None:
        return
    said = f"a step at the peak changes the weights by {ratio:.2%} of their norm"
    finding: Finding = "calm"
    if ratio > VIOLENT:
        finding, said = "unstable", f"{said}: violent (above {VIOLENT:.0%})"
    elif ratio < GENTLE:
        finding, said = "gentle", f"{said}: gentle (below {GENTLE:.1%})"
    if ratio < TINY:
        said += ", so small that the rate itself is worth raising"
    yield Signal(name="update ratio", value=ratio, finding=finding, sentence=said)


def _of_held_back_updates(seen: Seen) -> Iterator[Signal]:
    """Tell what the warmup held back: updates grow with the rate, so its own say what those at the peak would be."""
    ratio = at_full_rate(seen.steps, seen.warmup)
    if ratio is None:
        return
    said = f"at the peak rate, a step within the warmup would have changed the weights by {ratio:.2%} of their norm"
    harmless = ratio < HARMLESS
    yield Signal(
        name="held back",
        value=ratio,
        finding="gentle" if harmless else "calm",
        sentence=f"{said}: harmless (below {HARMLESS:.0%})" if harmless else said,
    )


def _of_gradients(seen: Seen) -> Iterator[Signal]:
    change = norm_change(seen.steps.grad_norm, seen.warmup)
    if change is not None:
        thrown = not 1 / _NORM_CHANGE <= change <= _NORM_CHANGE
        yield Signal(
            name="gradient norm",
            value=change,
            finding="unstable" if thrown else "calm",
            sentence=f"the gradient norm at the peak is {change:.2g} times that of the first steps",
        )


def _of_learning(seen: Seen) -> Iterator[Signal]:
    num_steps = len(seen.steps)
    start = num_steps if seen.learning_from is None else seen.learning_from
    at_high_rates = int((seen.steps.rate[:start] >= seen.steps.peak_rate / 2).sum())
    ratio = at_peak(seen.steps.update_ratio, seen.warmup)
    stuck = at_high_rates >= _STUCK * num_steps and (ratio is None or ratio >= GENTLE)
    said = f"the loss is below 95 % of its start for good from step {start + 1} on"
    if seen.learning_from is None:
        said = "the loss never fell below 95 % of its start for good"
    yield Signal(
        name="stagnation",
        value=start / num_steps,
        finding="unstable" if stuck else "calm",
        sentence=f"{said}; {at_high_rates} steps at half the peak or more had brought nothing" if stuck else said,
    )


def _of_low_rates(seen: Seen) -> Iterator[Signal]:
    if not seen.warmup:
        return
    num_steps = len(seen.steps)
    spent, learned = fall_below(seen.steps.loss, seen.steps.rate, 0.5)
    yield Signal(
        name="low rates",
        value=spent,
        finding="slow" if spent >= _BELOW_HALF and learned >= _LEARNED_THERE else "calm",
        sentence=f"{spent:.0%} of the run was spent below half the peak rate and brought {learned:.0%} of the fall of "
        "the loss",
    )
    slow, faster = slow_start(seen.steps.loss, seen.warmup)
    if slow >= _SLOW * num_steps and faster >= _FASTER and not seen.early_spikes:
        yield Signal(
            name="slow start",
            value=slow / num_steps,
            finding="slow",
            sentence=f"in the first {slow} steps, {slow / num_steps:.0%} of the run, the loss fell {faster:.0f} times "
            "slower than at its fastest",
        )


def _of_epochs(seen: Seen) -> Iterator[Signal]:
    epochs = seen.history.epochs
    upto = -(-seen.early // seen.history.plan.batches_per_epoch) + 1
    count = rising_together(epochs.get("val_loss", []), epochs.get("val_accuracy", []), upto)
    if count:
        yield Signal(
            name="accuracy without loss",
            value=count,
            finding="calm",
            sentence=f"in {count} of the first {upto} epochs the validation accuracy rose and the loss did, too: the "
            "network grows surer faster than better",
        )


def _of_decisions(seen: Seen) -> Iterator[Signal]:
    for row in seen.history.decisions:
        sentence = f"the adaptive warmup {row['action']} at step {row['tried']}: {row['reason']}"
        yield Signal(name="adaptive warmup", value=float(row["share"]), finding="calm", sentence=sentence)


def _of_measured_rates(seen: Seen) -> Iterator[Signal]:
    measured = seen.history.plan.rates
    if measured is None or measured.critical is None or not seen.warmup:
        return
    share = measured.critical / seen.steps.peak_rate
    yield Signal(
        name="critical rate",
        value=share,
        finding="gentle" if share >= 1 else "calm",
        sentence=f"before training, a first step at a rate of up to {measured.critical:.3g}, {share:.0%} of the peak, "
        "did not raise the loss",
    )


def _of_the_end(seen: Seen) -> Iterator[Signal]:
    loss, num_steps = seen.steps.loss, len(seen.steps)
    last = float(np.median(loss[-min(20, num_steps // 2) :]))
    if last > loss[0] or seen.steps.skipped[-_EARLY:].all():
        said = (
            f"the run diverged: it ended after step {num_steps}, with a loss of {last:.3g} that began at {loss[0]:.3g}"
        )
        value = last if np.isfinite(last) else None
        yield Signal(name="divergence", value=value, finding="unstable", sentence=said)
