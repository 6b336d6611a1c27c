"""The pictures of a study: its history, each setting against the metric, and which setting matters."""

from collections.abc import Mapping
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halftone.loop.stop import Metric
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, panels
from halftone.tune.records import Summary
from halftone.tune.space import Choices, Dimension, Space
from halftone.tune.summary import better

_GRAY = "#9aa5b1"
_MOST_COLUMNS = 3


def history_figure(summary: Summary) -> Figure:
    """Draw what each trial came to, the best so far, and the defaults."""
    figure, (axes,) = panels(1, size=(7.6, 3.6))
    metric, outcomes = summary.metric, summary.outcomes
    _dots(axes, summary, {outcome.number: float(outcome.number) for outcome in outcomes})
    best: list[tuple[int, float]] = []
    for outcome in outcomes:
        if outcome.status == "finished" and outcome.value is not None:
            beaten = not best or better(metric, outcome.value, best[-1][1])
            best.append((outcome.number, outcome.value if beaten else best[-1][1]))
    steps = [_scaled(metric, value) for _, value in best]
    axes.step([number for number, _ in best], steps, where="post", color=GREEN, linewidth=1.2, label="best so far")
    _mark_defaults(axes, summary)
    for place, number in enumerate(outcome.number for outcome in outcomes if outcome.status in ("diverged", "failed")):
        label = "diverged or failed" if place == 0 else None
        axes.axvline(number, color=_GRAY, linewidth=0.8, linestyle="--", label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(_unit(metric))
    finish(axes, f"Trials: {metric} on the validation images", "trial")
    _legend_below(figure, axes)
    return figure


def slices_figure(summary: Summary, space: Space) -> Figure:
    """Draw the metric over each setting, whatever the others were."""
    count = len(space.dimensions)
    columns = min(count, _MOST_COLUMNS)
    rows = -(-count // columns)
    figure, places = panels(count, size=(4.2 * columns, 3.2 * rows), columns=columns)
    for axes, dimension in zip(places, space.dimensions, strict=True):
        _slice(axes, summary, dimension)
    _legend_below(figure, places[0])
    return figure


def importance_figure(importance: Mapping[str, float], num_finished: int) -> Figure:
    """Draw the share of each setting in the variance of the metric."""
    figure, (axes,) = panels(1, size=(6.4, 1.3 + 0.35 * len(importance)))
    names = list(importance)[::-1]
    bars = axes.barh(names, [100 * importance[name] for name in names], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.0f %%", padding=3, color=INK)
    axes.grid(visible=False)
    axes.margins(x=0.12)
    below = f"share of the variance, % (fANOVA, {num_finished} finished trials)"
    finish(axes, "Which setting matters", below)
    return figure


def _slice(axes: Axes, summary: Summary, dimension: Dimension) -> None:
    searched = [outcome for outcome in summary.outcomes if dimension.name in outcome.values]
    if isinstance(dimension, Choices):
        position = {value: float(number) for number, value in enumerate(dimension.values)}
        places = {outcome.number: position[outcome.values[dimension.name]] for outcome in searched}
        axes.set_xticks(range(len(position)), list(position))
        axes.set_xlim(-0.5, len(position) - 0.5)
    else:
        values = {outcome.number: outcome.values[dimension.name] for outcome in searched}
        places = {number: float(value.removesuffix(dimension.unit)) for number, value in values.items()}
        if dimension.kind == "log":
            axes.set_xscale("log")
    _dots(axes, summary, places)
    _mark_defaults(axes, summary)
    axes.set_ylabel(_unit(summary.metric))
    unit = "" if isinstance(dimension, Choices) or not dimension.unit else f", {dimension.unit}"
    finish(axes, dimension.name, dimension.setting + unit)


def _dots(axes: Axes, summary: Summary, places: Mapping[int, float]) -> None:
    """Draw a dot for each trial that has a place and a value; pruned ones lighter, at their last epoch.

    The axis spans the better half of the trials; a triangle at its end stands for a value beyond it.
    """
    metric, end = summary.metric, _worst_drawn(summary)
    for status, colour in (("pruned", _GRAY), ("finished", BLUE)):
        drawn = [outcome for outcome in summary.outcomes if outcome.status == status and outcome.number in places]
        values = {outcome.number: outcome.value for outcome in drawn if outcome.value is not None}
        within = [number for number, value in values.items() if not better(metric, end, value)]
        beyond = [number for number in values if number not in within]
        edge = "^" if metric == "loss" else "v"
        for numbers, marker, label in ((within, "o", status), (beyond, edge, None)):
            if numbers:
                heights = [_scaled(metric, end if numbers is beyond else values[number]) for number in numbers]
                x = [places[number] for number in numbers]
                axes.plot(x, heights, linestyle="", marker=marker, markersize=4.5, color=colour, label=label)


def _worst_drawn(summary: Summary) -> float:
    """Return where the axis of the metric ends: at the median of the trials, or at the defaults if worse."""
    values = [outcome.value for outcome in summary.outcomes if outcome.value is not None]
    defaults = summary.outcome(0)
    ends = [median(values)] if values else [0.0]
    if defaults is not None and defaults.value is not None:
        ends.append(defaults.value)
    return max(ends) if summary.metric == "loss" else min(ends)


def _mark_defaults(axes: Axes, summary: Summary) -> None:
    defaults = summary.outcome(0)
    if defaults is not None and defaults.value is not None:
        axes.axhline(
            _scaled(summary.metric, defaults.value), color=ORANGE, linewidth=1.2, linestyle=":", label="defaults"
        )


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Put one legend under all panels, where it covers nothing."""
    for place in figure.axes:
        legend = place.get_legend()
        if legend is not None:
            legend.remove()
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=INK)


def _scaled(metric: Metric, value: float) -> float:
    return value if metric == "loss" else 100 * value


def _unit(metric: Metric) -> str:
    return "loss" if metric == "loss" else f"{metric}, %"
