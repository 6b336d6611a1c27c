"""The picture of a network's health: layers down, magnitudes across, the format's range drawn."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halftone.diagnose.precision import Watched
from halftone.precision.formats import FORMATS, Format
from halftone.precision.magnitudes import LOWEST, Magnitudes
from halftone.report.figures import GREEN, ORANGE, panels

_MOST_ROWS = 60
"""Layers that are drawn; of more, evenly spread ones."""
_ROW = 0.2
"""Inches."""


def health_figure(found: Watched) -> Figure:
    """Draw what every layer holds, forward and backward, beside what the format can hold."""
    health = found.diagnosis.health
    names = [layer.name for layer in health.layers]
    step = max(1, -(-len(names) // _MOST_ROWS))
    names = names[::step]
    kept = set(health.keep)
    figure, (forward, backward) = panels(2, size=(12.5, 1.9 + _ROW * len(names)))
    held = FORMATS[health.format]
    numbers = [found.numbers[name] for name in names]
    _rows(forward, [layer.output for layer in numbers], held, 1.0)
    _rows(backward, [layer.gradient for layer in numbers], held, health.loss_scale)
    forward.set_yticks(range(len(names)), names, fontsize=7)
    for label in forward.get_yticklabels():
        if label.get_text() in kept:
            label.set_color(ORANGE)
            label.set_fontweight("bold")
    backward.set_yticks(range(len(names)), [_lost(found, name) for name in names], fontsize=7)
    backward.yaxis.tick_right()
    forward.set_title(f"Outputs, and what {health.format} holds", loc="left", fontsize=10.5, fontweight="bold")
    scaled = f"; green: with the loss scale {health.loss_scale:g}" if health.loss_scale != 1 else ""
    backward.set_title(f"Gradients{scaled}", loc="left", fontsize=10.5, fontweight="bold")
    figure.suptitle(
        "Blue: how often a magnitude occurs. Shaded: zero or infinite in the format. Left of the dots: subnormal. "
        "At the right: share of the gradients lost, without and with the scale.",
        fontsize=8.5,
    )
    return figure


def _lost(found: Watched, name: str) -> str:
    layer = next(one for one in found.diagnosis.health.layers if one.name == name)
    if found.diagnosis.health.loss_scale == 1:
        return f"{layer.gradient.underflow:.1%}"
    return f"{layer.gradient.underflow:.1%} → {layer.scaled_gradient.underflow:.1%}"


def _rows(axes: Axes, parts: list[Magnitudes], held: Format, scale: float) -> None:
    """Draw one row of darkness per layer over the exponents that occur."""
    smallest, normal, largest = (math.log2(bound) for bound in (held.smallest, held.smallest_normal, held.largest))
    table = np.stack([part.counts.numpy() for part in parts]).astype(float)
    used = np.flatnonzero(table.sum(0))
    low = min(used.min() + LOWEST if len(used) else -20, max(smallest, -45)) - 2
    high = max(used.max() + LOWEST + 1 if len(used) else 0, min(largest, 20)) + 2
    low = max(min(low, smallest - 3 - math.log2(scale)), -60)
    table /= np.maximum(table.max(1, keepdims=True), 1)
    axes.imshow(
        table,
        aspect="auto",
        cmap="Blues",
        extent=(LOWEST, LOWEST + table.shape[1], len(parts) - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.set_xlim(low, high)
    axes.axvspan(low, smallest - 1, color=ORANGE, alpha=0.13, linewidth=0)
    axes.axvspan(largest, high, color=ORANGE, alpha=0.13, linewidth=0)
    for bound, style in ((smallest - 1, "-"), (normal, ":"), (largest, "-")):
        axes.axvline(bound, color=ORANGE, linewidth=1.2, linestyle=style)
    if scale != 1:
        for bound, style in ((smallest - 1, "-"), (normal, ":"), (largest, "-")):
            axes.axvline(bound - math.log2(scale), color=GREEN, linewidth=1.2, linestyle=style)
    axes.set_xlabel("log2 of the magnitude")
    axes.grid(visible=False)
