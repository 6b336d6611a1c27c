"""The picture of a warmup: loss, rate, gradient norm and size of the updates over the first part of a run."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halftone.diagnose.warmup import DiagnosedWarmup
from halftone.diagnose.warmup_evidence import GENTLE, VIOLENT, Seen
from halftone.diagnose.warmup_signals import Floats
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, line, mark_decisions, panels

_FEWEST_STEPS = 60
"""Steps that are drawn at least, where there are so many."""


def warmup_figure(found: DiagnosedWarmup) -> Figure:
    """Draw what the diagnosis is about, with the verdict above and its marks in the panels."""
    seen = found.seen
    figure, (loss, rate, norm, ratio) = panels(4, size=(11, 6.4), columns=2)
    shown = min(len(seen.steps), max(2 * seen.early, _FEWEST_STEPS))
    _draw(loss, seen, seen.steps.loss, shown, "Loss")
    _draw(rate, seen, seen.steps.rate, shown, "Learning rate", log=False)
    _draw(norm, seen, seen.steps.grad_norm, shown, "Gradient norm")
    _draw(ratio, seen, seen.steps.update_ratio, shown, "Update over weights")
    for spike in seen.spikes:
        if spike.start < shown:
            end = shown if spike.end is None else min(spike.end, shown)
            loss.axvspan(spike.start + 1, max(end, spike.start + 2), color=ORANGE, alpha=0.18, linewidth=0)
            loss.annotate(
                f"x {spike.height:.2g}", (spike.start + 1, 1), xycoords=("data", "axes fraction"), xytext=(2, -10),
                textcoords="offset points", color=ORANGE, fontsize=8,
            )  # fmt: skip
    mark_decisions(rate, seen.history, upto=shown)
    if np.isfinite(seen.steps.update_ratio[:shown]).any():
        for bound, name in ((VIOLENT, "violent"), (GENTLE, "gentle")):
            ratio.axhline(bound, color=ORANGE, linewidth=1, linestyle="--")
            ratio.annotate(name, (1, bound), xycoords=("axes fraction", "data"), xytext=(0, 2),
                           textcoords="offset points", ha="right", fontsize=8, color=ORANGE)  # fmt: skip
    diagnosis = found.diagnosis
    figure.suptitle(f"{diagnosis.sentence} {diagnosis.advice}", fontsize=10.5, color=INK)
    return figure


def _draw(axes: Axes, seen: Seen, values: Floats, shown: int, name: str, *, log: bool = True) -> None:
    """Draw one column over the first steps, the end of the warmup, and the steps that were skipped."""
    present = np.flatnonzero(np.isfinite(values[:shown]))
    line(axes, [float(step + 1) for step in present], [float(value) for value in values[present]], name.lower(), BLUE)
    if seen.warmup:
        axes.axvline(seen.warmup + 1, color=GREEN, linewidth=1, linestyle=":", label="end of warmup")
    for number, step in enumerate(np.flatnonzero(seen.steps.skipped[:shown])):
        axes.axvline(int(step) + 1, color=ORANGE, linewidth=0.8, label="skipped step" if number == 0 else None)
    if log and len(present):
        axes.set_yscale("log")
    axes.set_xlim(1, shown)
    if not len(present):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontsize=9)
    finish(axes, name, "optimizer step")
