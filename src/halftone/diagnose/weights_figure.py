"""The picture of starting weights: activations going up, gradients coming down, a line for each way to begin."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halftone.diagnose.weights import DiagnosedWeights
from halftone.diagnose.weights_verdict import TOLERANCE
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, panels

_COLOURS = (BLUE, ORANGE, "#8e5bd0", "#c2a012", "#19a3b5", INK)


def weights_figure(diagnosed: DiagnosedWeights) -> Figure:
    """Draw how large outputs and gradients are from layer to layer, each against the place where it comes from.

    Outputs are shown over those of the first layer, gradients over those of the last hidden one. The green band is
    what the verdict calls healthy.
    """
    figure, (up, down) = panels(2, size=(11, 3.9))
    for number, found in enumerate(diagnosed.found):
        colour = _COLOURS[number % len(_COLOURS)]
        hidden = [layer for layer in found.layers if layer.name not in diagnosed.head]
        label = f"{found.label}: {found.verdict.outcome}"
        outputs, gradients = [layer.std for layer in hidden], [layer.gradient for layer in hidden]
        _draw(up, outputs, outputs, label, colour)
        _draw(down, gradients, gradients[::-1], label, colour)
    for axes in (up, down):
        axes.set_yscale("log")
        axes.axhspan(1 / TOLERANCE, TOLERANCE, color=GREEN, alpha=0.13, linewidth=0, label="healthy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(up, "Outputs going up, over those of the first layer", "layer, from the pixels on")
    finish(down, "Gradients coming down, over those of the last layer", "layer, from the pixels on")
    return figure


def _draw(axes: Axes, values: Sequence[float | None], origin: Sequence[float | None], label: str, colour: str) -> None:
    """Draw numbers over the first of `origin` that is one; zeros and what is not finite stay gaps."""
    first = next((value for value in origin if value), None)
    shares = [value / first if value and first else math.nan for value in values]
    marker = "o" if len(shares) <= 40 else None
    axes.plot(range(1, len(shares) + 1), shares, label=label, color=colour, marker=marker, markersize=3)
