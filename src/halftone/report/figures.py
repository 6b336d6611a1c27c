"""Figures of a run, each drawn once and written as PNG for the folder or as SVG for the page."""

import io
import math
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halftone.metrics.report import Metrics
from halftone.report.history import Column, History

INK = "#1f2933"
"""Lines and letters; on the page it follows the reader's theme."""
BLUE, ORANGE, GREEN = "#2f6fde", "#d9622b", "#2a9d5c"
_MOST_POINTS = 1500
_MOST_NAMED = 12
"""Decisions of a warmup that are named; of the rest there are dots."""
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "halftone",
}


Draw = Callable[[Axes, History], None]


def losses(axes: Axes, history: History) -> None:
    """Draw the losses over the epochs."""
    epochs = history.epochs.get("epoch", [])
    line(axes, epochs, history.epochs.get("train_loss", []), "training", BLUE)
    line(axes, epochs, history.epochs.get("val_loss", []), "validation", ORANGE)
    _finish_epochs(axes, history, "Loss")


def accuracies(axes: Axes, history: History) -> None:
    """Draw the accuracies over the epochs."""
    epochs = history.epochs.get("epoch", [])
    line(axes, epochs, percent(history.epochs.get("train_accuracy", [])), "training, augmented", BLUE)
    line(axes, epochs, percent(history.epochs.get("val_accuracy", [])), "validation", ORANGE)
    _finish_epochs(axes, history, "Accuracy, %")


def _finish_epochs(axes: Axes, history: History, name: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if history.best_epoch:
        axes.axvline(history.best_epoch, color=GREEN, linewidth=1, linestyle=":", label="best epoch")
    finish(axes, name, "epoch")


def rate(axes: Axes, history: History) -> None:
    """Draw the learning rate over the steps, with the end of the warmup."""
    line(axes, history.steps.get("tried", []), history.steps.get("lr", []), "learning rate", BLUE)
    if history.plan.warmup_steps:
        planned = "planned end of warmup" if history.decisions else "end of warmup"
        axes.axvline(history.plan.warmup_steps, color=GREEN, linewidth=1, linestyle=":", label=planned)
    mark_decisions(axes, history)
    axes.set_ylim(bottom=0)
    finish(axes, "Learning rate", "optimizer step")


def mark_decisions(axes: Axes, history: History, *, upto: float = math.inf) -> None:
    """Mark what an adaptive warmup decided, up to a step, on a panel of the rate."""
    rates = dict(zip(history.steps.get("tried", []), history.steps.get("lr", []), strict=True))
    colours = {"held": ORANGE, "backed off": ORANGE, "lowered": ORANGE, "hurried": GREEN, "finished": GREEN}
    marked = [row for row in history.decisions if float(row["tried"]) <= upto and float(row["tried"]) in rates]
    for number, row in enumerate(marked):
        place = (float(row["tried"]), rates[float(row["tried"])] or 0.0)
        colour = colours[row["action"]]
        axes.plot(*place, marker="o", markersize=4, color=colour)
        if number < _MOST_NAMED:
            axes.annotate(
                row["action"], place, xytext=(5, -3 - 10 * (number % 3)), textcoords="offset points", fontsize=7.5,
                color=colour,
            )  # fmt: skip


def gradient_norm(axes: Axes, history: History) -> None:
    """Draw the norm of the gradients over the steps, and where steps were skipped."""
    line(axes, history.steps.get("tried", []), history.steps.get("grad_norm", []), "gradient norm", BLUE)
    axes.set_yscale("log")
    _mark_skipped(axes, history)
    finish(axes, "Gradient norm", "optimizer step")


def loss_scale(axes: Axes, history: History) -> None:
    """Draw the loss scale over the steps, and where steps were skipped."""
    line(axes, history.steps.get("tried", []), history.steps.get("loss_scale", []), "loss scale", BLUE)
    axes.set_yscale("log", base=2)
    _mark_skipped(axes, history)
    finish(axes, "Loss scale", "optimizer step")


def _mark_skipped(axes: Axes, history: History) -> None:
    flags = zip(history.steps.get("tried", []), history.steps.get("skipped", []), strict=False)
    skipped = [step for step, gone in flags if gone and step is not None]
    for number, step in enumerate(skipped):
        axes.axvline(step, color=ORANGE, linewidth=0.8, label="skipped step" if number == 0 else None)


def precision_panels(history: History) -> tuple[Draw, ...]:
    """Return what tells of precision in this run; the loss scale only where there was one."""
    scaled = any(value is not None for value in history.steps.get("loss_scale", []))
    return (gradient_norm, loss_scale) if scaled else (gradient_norm,)


def side_by_side(history: History, *draws: Draw) -> Figure:
    """Draw several panels beside each other."""
    figure, axes = panels(len(draws))
    for place, draw in zip(axes, draws, strict=True):
        draw(place, history)
    return figure


def confusion(metrics: Metrics) -> Figure:
    """Draw the confusion matrix; colour is the share of the true class, numbers are images."""
    count = len(metrics.classes)
    side = min(12.0, 2.5 + 0.42 * count)
    figure, (axes,) = panels(1, size=(side + 0.8, side))
    cells = metrics.confusion
    shares = [[cell / max(sum(row), 1) for cell in row] for row in cells]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    if count <= 40:
        names = [record.name for record in metrics.classes]
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
    if count <= 20:
        for row in range(count):
            for column in range(count):
                if cells[row][column]:
                    ink = "white" if shares[row][column] > 0.55 else INK
                    axes.text(column, row, str(cells[row][column]), ha="center", va="center", color=ink, fontsize=8)
    axes.grid(visible=False)
    axes.set_ylabel("true")
    finish(axes, "Confusion matrix", "predicted")
    axes.spines[:].set_visible(False)
    return figure


def panels(
    count: int, *, size: tuple[float, float] | None = None, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, or in rows of `columns`, in the style of the project."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size or (5.2 * count, 3.2), layout="constrained")
        across = columns or count
        rows = -(-count // across)
        axes = [figure.add_subplot(rows, across, number + 1) for number in range(count)]
        for place in axes:
            place.grid(axis="y")
            place.set_axisbelow(True)
    return figure, axes


def line(axes: Axes, x: Column, y: Column, label: str, colour: str) -> None:
    """Draw a line where there is anything to draw; gaps stay gaps, and long series are thinned evenly."""
    points = [(a, math.nan if b is None else b) for a, b in zip(x, y, strict=False) if a is not None]
    if not points or all(math.isnan(b) for _, b in points):
        return
    step = max(1, len(points) // _MOST_POINTS)
    thinned = points[::step]
    marker = "o" if len(thinned) <= 12 else None
    axes.plot(
        [a for a, _ in thinned], [b for _, b in thinned], label=label, color=colour, marker=marker, markersize=3.5
    )


def finish(axes: Axes, name: str, below: str) -> None:
    """Name a panel and its horizontal axis, and add a legend where there is more than one thing to explain."""
    axes.set_title(name, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlabel(below)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(labelcolor=INK, frameon=False)


def percent(column: Column) -> Column:
    """Turn shares into per cent."""
    return [None if value is None else 100 * value for value in column]


def to_png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return a figure as PNG, on white."""
    return _render(figure, format="png", dpi=dpi, facecolor="white", bbox_inches="tight")


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG to be put into a page; its ink takes the colour of the text around it."""
    text = _render(
        figure, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    ).decode()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _render(figure: Figure, **options: Any) -> bytes:
    import matplotlib as mpl

    out = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(out, **options)
    return out.getvalue()
