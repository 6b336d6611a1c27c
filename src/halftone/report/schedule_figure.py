"""The course of the rate before a run: as a chart of characters for the terminal, and as a picture."""

from itertools import pairwise

from matplotlib.figure import Figure

from halftone.base.records import decided
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, line, panels
from halftone.report.history import Column
from halftone.run.plan.preview import schedule_of
from halftone.run.plan.record import Plan

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 60, 8
"""Characters."""


def schedule_chart(plan: Plan) -> str:
    """Draw the rate over the run with block characters: the rate at the left, epochs below, the end of the warmup."""
    schedule, peak = schedule_of(plan), decided(plan.settled.optimizer.lr)
    total = schedule.total_steps
    if not total:
        return ""
    shares = [schedule.share(step) for step in range(total)]
    bounds = [round(total * column / _WIDTH) for column in range(_WIDTH + 1)]
    columns = [max(shares[start : max(end, start + 1)], default=shares[-1]) for start, end in pairwise(bounds)]
    top = max(columns) or 1.0
    labels = {0: f"{top * peak:.3g}", _HEIGHT // 2: f"{top * peak / 2:.3g}"}
    margin = max(map(len, labels.values()))
    rows = []
    for row in range(_HEIGHT):
        below = (_HEIGHT - 1 - row) * 8
        cells = (_BLOCKS[min(8, max(0, round(value / top * _HEIGHT * 8) - below))] for value in columns)
        rows.append(f"{labels.get(row, ''):>{margin}} ┤{''.join(cells)}".rstrip())
    marker = min(_WIDTH - 1, schedule.warmup_steps * _WIDTH // total) if schedule.warmup_steps else None
    axis = "".join("┴" if column == marker else "─" for column in range(_WIDTH))
    rows.append(f"{'0':>{margin}} └{axis}")
    indent = " " * (margin + 2)
    rows.append(indent + _epochs(total / max(plan.batches_per_epoch, 1)))
    if marker is not None:
        text = "↑ end of warmup" if marker < _WIDTH - 16 else "end of warmup ↑"
        rows.append(indent + " " * (marker if text[0] == "↑" else marker - len(text) + 1) + text)
    return "\n".join(rows)


def _epochs(epochs: float) -> str:
    """Write epochs below the axis: the start, the middle and the end."""
    middle, end = f"{epochs / 2:.3g}", f"{epochs:.3g} epochs"
    left = _WIDTH // 2 - len(middle) // 2
    text = "0" + " " * (left - 1) + middle
    return text + " " * (_WIDTH - len(text) - len(end)) + end


def schedule_figure(plan: Plan) -> Figure:
    """Draw the rate over the steps, with epochs on top, the warmup shaded, and momentum where it moves."""
    schedule, peak = schedule_of(plan), decided(plan.settled.optimizer.lr)
    steps = range(schedule.total_steps)
    epochs: Column = [step / max(plan.batches_per_epoch, 1) for step in steps]
    figure, (axes,) = panels(1, size=(7.6, 3.6))
    line(axes, list(steps), [peak * schedule.share(step) for step in steps], "learning rate", BLUE)
    if schedule.warmup_steps:
        axes.axvspan(0, schedule.warmup_steps, color=GREEN, alpha=0.12, linewidth=0, label="warmup")
    axes.set_xlim(0, max(len(steps) - 1, 1))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate")
    above = axes.twiny()
    above.set_xlim(0, max(epochs[-1] or 0, 1e-6) if epochs else 1)
    above.set_xlabel("epoch")
    above.spines["right"].set_visible(False)
    above.grid(visible=False)
    momentum = [schedule.momentum_at(step) for step in steps]
    if any(value is not None for value in momentum):
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        right.grid(visible=False)
        line(right, list(steps), momentum, "momentum", ORANGE)
        right.set_ylabel("momentum", color=ORANGE)
    axes.set_xlabel("optimizer step")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure
