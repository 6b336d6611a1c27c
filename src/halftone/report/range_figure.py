"""The picture of a range test: loss over rate, with what was read from it."""

import math

from matplotlib.figure import Figure

from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, panels
from halftone.run.finding import RangeTest

_ROOM = 0.12
"""Of the height of the smoothed curve, above and below it."""


def range_figure(test: RangeTest) -> Figure:
    """Draw the raw and the smoothed loss over the rate, the steepest fall, the edge and the suggestion."""
    figure, (axes,) = panels(1, size=(7.6, 4.0))
    rates, smoothed, found = test.rates, test.smoothed, test.measured
    axes.plot(rates, test.losses, color=INK, alpha=0.35, linewidth=0.9, label="loss of each batch")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    marks = (
        (found.steepest, "falls fastest", INK, ":"),
        (found.suggestion, "suggestion", GREEN, "-"),
        (found.edge, "begins to rise", ORANGE, "--"),
    )
    for rate, label, colour, style in marks:
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle=style, linewidth=1.3, label=f"{label}: {rate:.2g}")
    axes.set_xscale("log")
    even = [value for value in smoothed if math.isfinite(value)]
    if even:  # an explosion would hide the rest: the curve decides the height
        room = _ROOM * (max(even) - min(even)) + 0.02 * max(even)
        axes.set_ylim(min(*even, *test.losses) - room / 2, max(even) + 2 * room)
    axes.set_ylabel("loss")
    optimizer, model = test.plan.settled.optimizer.name, test.plan.settled.model.name
    finish(axes, f"Range test of {model} with {optimizer}", "learning rate")
    return figure
