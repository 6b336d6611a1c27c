"""Pictures of a comparison: paired differences, curves, what time and memory buy, courses of rate and loss scale."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from halftone.base.files import write_bytes
from halftone.comparison.pages.class_figures import class_panels, most_affected
from halftone.comparison.pages.looks import BROKEN, Draw, Look, add_legend, finished, lay, looks, say_nothing
from halftone.comparison.records import HIGHER_IS_BETTER, SHARES, Comparison, EpochPoint, Outcome, Verdict
from halftone.comparison.verdicts.pairing import differences_of, finished_pairs, measured
from halftone.comparison.verdicts.wording import WORDS, counted
from halftone.report.figures import GREEN, INK, finish, to_png

Read = Callable[[EpochPoint], float | None]

_MOST_IN_PRINT = 4
"""Variants whose classes are drawn for a paper."""
_ROW = 0.86
"""Inches for one variant in the picture of the differences."""
_CROWDED = 10
"""A logarithmic axis is used if the largest difference is so many times as large as the part that stays linear."""
_LEAST_SPAN = 0.2
"""Of an axis of time or memory, as a share of what is in its middle: noise is not to fill the picture."""


def write_figures(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write differences.png, curves.png, trade_offs.png and classes.png, fit for a paper."""
    drawn = {}
    drawn["differences"], (place,) = lay(1, (6.4, differences_height(comparison)))
    differences(place, comparison)

    drawn["curves"], (left, right) = lay(2, (4.2, 3.2))
    accuracy_curves(left, comparison)
    loss_curves(right, comparison)
    add_legend(drawn["curves"], comparison, broken=True)

    drawn["trade_offs"], (left, right) = lay(2, (4.2, 3.2))
    time_and_accuracy(left, comparison)
    memory_and_accuracy(right, comparison)
    add_legend(drawn["trade_offs"], comparison)

    drawn["classes"] = class_panels(comparison, most_affected(comparison, _MOST_IN_PRINT))
    paths = []
    for name, figure in drawn.items():
        paths.append(folder / f"{name}.png")
        write_bytes(paths[-1], to_png(figure, dpi=200))
    return tuple(paths)


def differences_height(comparison: Comparison) -> float:
    """Return the height in inches that the differences take."""
    return 1.15 + _ROW * max(1, len(comparison.verdicts))


def differences(axes: Axes, comparison: Comparison) -> None:
    """Draw a row per variant: its name, the mean and its interval, a dot per seed; the margin as a band."""
    known, measure = looks(comparison), comparison.config.measure
    scale, unit = (100.0, "points") if measure in SHARES else (1.0, "nats")
    margin = comparison.config.margin / 100 * scale
    axes.axvspan(-margin, margin, color=GREEN, alpha=0.16, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    rows = []
    for number, verdict in enumerate(comparison.verdicts):
        pairs = finished_pairs(verdict.variant, verdict.baseline, comparison.outcomes)
        dots = [scale * value for value in differences_of(pairs, measure)]
        rows.append(_difference_row(axes, known[verdict.variant], verdict, dots, scale, -number))
    fitted = _fit_differences(axes, rows, margin)
    axes.set_ylim(0.62 - max(1, len(rows)), 0.7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    side = "right" if measure in HIGHER_IS_BETTER else "left"
    baseline = known[comparison.variants[0].name].name
    finish(axes, f"Difference of {WORDS[measure].noun}", f"{unit} from {baseline}\nfurther {side} is better{fitted}")
    axes.xaxis.label.set_parse_math(False)


def _difference_row(
    axes: Axes, look: Look, verdict: Verdict, dots: list[float], scale: float, height: float
) -> list[float]:
    """Draw one variant's row and return the places that it takes."""
    found, told, ends = verdict.difference, "no pair of finished runs", list(dots)
    digits = 2 if verdict.measure in SHARES else 4
    heights = [height - 0.11 - 0.07 * (dots[:number].count(dot) % 4) for number, dot in enumerate(dots)]  # equal ones
    axes.scatter(dots, heights, s=16, color=look.colour, alpha=0.55, linewidths=0)
    if found is not None:
        mean, low, high = (scale * value for value in (found.mean, found.low, found.high))
        axes.plot([low, high], [height + 0.06] * 2, color=look.colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(mean, height + 0.06, marker=look.mark, markersize=7, color=look.colour)
        told = f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}), {counted(found.num_pairs, 'pair')}"
        ends += [low, high]
    elif dots:
        told = f"{fmean(dots):+.{digits}f}, too few pairs for an interval"
    for text, above, weight in ((look.name, 0.5, "bold"), (told, 0.29, "normal")):
        axes.text(
            0, height + above, text, transform=axes.get_yaxis_transform(), fontsize=9, fontweight=weight, va="center",
            color=INK, parse_math=False, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    return ends


def _fit_differences(axes: Axes, rows: list[list[float]], margin: float) -> str:
    """Fit the axis to the rows and the margin; where one row would press the others flat, on a logarithmic axis.

    Returns:
        What is to be said of it.
    """
    places = [margin, -margin, *(place for row in rows for place in row)]
    room = 0.08 * (max(places) - min(places))
    reach = [max(map(abs, row)) for row in rows if row]
    linear = 2 * max(margin, min(reach, default=0.0))
    if max(reach, default=0.0) > _CROWDED * linear:
        axes.set_xscale("symlog", linthresh=linear)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(1.5 * min(places), 1.5 * max(places))
        return f"; logarithmic beyond {linear:.3g}"
    axes.set_xlim(min(places) - room, max(places) + room)
    return ""


def accuracy_curves(axes: Axes, comparison: Comparison) -> None:
    """Draw the validation accuracy over the epochs."""
    curves(axes, comparison, lambda row: None if row.val_accuracy is None else 100 * row.val_accuracy)
    finish(axes, "Validation accuracy, %", "epoch")


def loss_curves(axes: Axes, comparison: Comparison) -> None:
    """Draw the validation loss over the epochs."""
    curves(axes, comparison, lambda row: row.val_loss)
    finish(axes, "Validation loss, nats", "epoch")


def rates(axes: Axes, comparison: Comparison) -> None:
    """Draw the learning rate over the epochs."""
    curves(axes, comparison, lambda row: row.lr)
    finish(axes, "Learning rate at the end of an epoch", "epoch")


def loss_scales(axes: Axes, comparison: Comparison) -> None:
    """Draw the loss scale over the epochs."""
    curves(axes, comparison, lambda row: row.loss_scale)
    axes.set_yscale("log", base=2)
    finish(axes, "Loss scale at the end of an epoch", "epoch")


def timelines(comparison: Comparison) -> list[Draw]:
    """Return the courses that tell something: the rate where variants differ, the loss scale where there is one."""
    courses = {tuple(row.lr for row in run.epochs) for run in comparison.outcomes if run.status == "finished"}
    scaled = any(row.loss_scale is not None for run in comparison.outcomes for row in run.epochs)
    told: list[tuple[Draw, bool]] = [(rates, len(courses) > 1), (loss_scales, scaled)]
    return [draw for draw, worth in told if worth]


def curves(axes: Axes, comparison: Comparison, read: Read) -> None:
    """Draw for each variant the mean of the finished runs and their range; of the others each run, thin, with an end.

    Runs that broke do not stretch the axis if there are others.
    """
    bounds: list[float] = []
    for name, look in looks(comparison).items():
        by_epoch = _by_epoch(finished(comparison, name), read)
        if by_epoch:
            epochs, values = list(by_epoch), list(by_epoch.values())
            lows, highs = [min(row) for row in values], [max(row) for row in values]
            axes.fill_between(epochs, lows, highs, color=look.colour, alpha=0.16, linewidth=0)
            axes.plot(
                epochs, [fmean(row) for row in values], color=look.colour, dashes=look.dash or (None, None),
                marker=look.mark, markersize=4, markevery=max(1, len(epochs) // 8),
            )  # fmt: skip
            bounds += [min(lows), max(highs)]
    low, high = _with_room(bounds) if bounds else (-math.inf, math.inf)
    for run in comparison.outcomes:
        points = [(row.epoch, read(row)) for row in run.epochs] if run.status != "finished" else []
        seen = [(epoch, value) for epoch, value in points if value is not None]
        if seen:
            colour = looks(comparison)[run.variant].colour
            axes.plot(*zip(*seen, strict=True), color=colour, linewidth=1.1, linestyle=":")
            last = (seen[-1][0], min(max(seen[-1][1], low), high))
            axes.plot(*last, color=colour, marker=BROKEN, markersize=7, linestyle="none", clip_on=False, zorder=3)
    if bounds:
        axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not axes.lines:
        say_nothing(axes, "no run has such numbers")


def _with_room(bounds: list[float]) -> tuple[float, float]:
    room = 0.05 * (max(bounds) - min(bounds)) or 0.05 * abs(max(bounds)) or 1.0
    return min(bounds) - room, max(bounds) + room


def _by_epoch(runs: Iterable[Outcome], read: Read) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for run in runs:
        for row in run.epochs:
            value = read(row)
            if value is not None:
                found.setdefault(row.epoch, []).append(value)
    return dict(sorted(found.items()))


def time_and_accuracy(axes: Axes, comparison: Comparison) -> None:
    """Draw the accuracy over the seconds of training."""
    _trade(axes, comparison, lambda run: run.train_seconds)
    finish(axes, "Accuracy, %, over time", "seconds of training; up and left is better")


def memory_and_accuracy(axes: Axes, comparison: Comparison) -> None:
    """Draw the accuracy over the memory: of the accelerator where there is one, else of the process."""
    on_device = any(run.device_memory_mb is not None for run in comparison.outcomes)
    _trade(axes, comparison, lambda run: run.device_memory_mb if on_device else run.peak_memory_mb)
    place = "accelerator" if on_device else "process"
    finish(axes, "Accuracy, %, over memory", f"peak MB of the {place}; up and left is better")


def _trade(axes: Axes, comparison: Comparison, cost: Callable[[Outcome], float | None]) -> None:
    """Draw a dot per finished run, and the mean of each variant."""
    for name, look in looks(comparison).items():
        pairs = ((cost(run), measured(run, "accuracy")) for run in finished(comparison, name))
        points = [(paid, 100 * gained) for paid, gained in pairs if paid is not None and gained is not None]
        if not points:
            continue
        paid, gained = zip(*points, strict=True)
        axes.scatter(paid, gained, s=24, color=look.colour, marker=look.mark, alpha=0.55, linewidths=0)
        axes.plot(
            fmean(paid), fmean(gained), marker=look.mark, markersize=10, color=look.colour, markeredgecolor=INK,
            markeredgewidth=1, linestyle="none",
        )  # fmt: skip
    axes.grid(axis="x")
    if not axes.lines:
        say_nothing(axes, "no finished run has such numbers")
        return
    low, high = axes.get_xlim()
    middle = (low + high) / 2
    half = max(high - low, _LEAST_SPAN * middle) / 2
    axes.set_xlim(middle - half, middle + half)
