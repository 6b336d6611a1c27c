"""The picture of starting weights: activations going up, gradients coming down, a line for each way to begin."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halftone.diagnose.weights import DiagnosedWeights
from halftone.diagnose.weights_verdict import STRONGER, WEAKER, gradient_above
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, panels

_COLOURS = (BLUE, ORANGE, "#8e5bd0", "#c2a012", "#19a3b5", INK)
_RED, _GRAY = "#c0392b", "#7b8794"
_BEYOND = 30
"""How many times further than the limits the picture reaches, at least, so that what is not healthy has its place."""


def weights_figure(diagnosed: DiagnosedWeights) -> Figure:
    """Draw how large outputs and gradients are from layer to layer, each against the place where it comes from.

    Outputs are shown over those of the first layer, gradients over those of what the head takes. Behind the lines
    stands what the verdict makes of a line that ends there.
    """
    figure, (up, down) = panels(2, size=(11, 4.2))
    for number, found in enumerate(diagnosed.found):
        colour = _COLOURS[number % len(_COLOURS)]
        hidden = [layer for layer in found.layers if layer.name not in diagnosed.head]
        label = f"{found.label}: {found.verdict.outcome}"
        outputs, gradients = [layer.std for layer in hidden], [layer.gradient for layer in hidden]
        _draw(up, outputs, outputs, label, colour)
        _draw(down, gradients, [gradient_above(found.layers), *gradients[::-1]], label, colour)
    _finish(up, "Outputs going up, over those of the first layer", STRONGER["activations"], side="left")
    _finish(down, "Gradients coming down, over those at the head", STRONGER["gradients"], side="right")
    figure.legend(*up.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
    return figure


def _draw(axes: Axes, values: Sequence[float | None], origin: Sequence[float | None], label: str, colour: str) -> None:
    """Draw numbers over the first of `origin` that is one; zeros and what is not finite stay gaps."""
    first = next((value for value in origin if value), None)
    shares = [value / first if value and first else math.nan for value in values]
    marker = "o" if len(shares) <= 40 else None
    axes.plot(range(1, len(shares) + 1), shares, label=label, color=colour, marker=marker, markersize=3)


def _finish(axes: Axes, name: str, limit: float, *, side: str) -> None:
    """Name a panel, and the regions of the verdict on the side where all lines begin at one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 1 / WEAKER / _BEYOND), max(high, limit * _BEYOND)
    axes.set_ylim(low, high)
    place = 0.015 if side == "left" else 0.985
    regions = (("explodes", limit, high, _RED), ("healthy", 1 / WEAKER, limit, GREEN),
               ("vanishes", low, 1 / WEAKER, _GRAY))  # fmt: skip
    for outcome, bottom, top, colour in regions:
        axes.axhspan(bottom, top, color=colour, alpha=0.11, linewidth=0)
        axes.annotate(
            outcome, (place, top), xycoords=("axes fraction", "data"), xytext=(0, -4), textcoords="offset points",
            ha=side, va="top", color=colour, fontweight="bold",
        )  # fmt: skip
    axes.set_title(name, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlabel("layer, from the pixels on")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
