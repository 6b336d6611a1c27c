"""The picture of a step's time: its parts, the limits beside what is reached, and the way to the first step."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halftone.diagnose.speed_record import SpeedDiagnosis
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, panels

PARTS: Mapping[str, tuple[str, str]] = {
    "data": ("waiting for data", ORANGE),
    "augmentation": ("augmentation", "#e0a13c"),
    "forward": ("forward", BLUE),
    "backward": ("backward", "#1b4a9e"),
    "optimizer": ("optimizer", GREEN),
    "halftone": ("halftone's own", "#8a94a0"),
}
"""The name and the colour of each part, in the order of a step."""
_FAR = 2.5
"""Times the model's pace: longer bars are cut off, and their number says how long they are."""
_LABELLED = 0.06
"""The share of a row from which on a part is labelled within it."""


def speed_figure(found: SpeedDiagnosis) -> Figure:
    """Draw a diagnosis, with the verdict above."""
    figure, (step, limits, start) = panels(3, size=(10.5, 6.6), columns=1)
    measured = found.measured
    parts = {PARTS[name][0]: (1000 * measured.step.get(name, 0.0), PARTS[name][1]) for name in PARTS}  # type: ignore[call-overload]
    finish(step, f"A step of {found.circumstances.batch_size} images", "milliseconds")
    _row(step, parts)
    _limits(limits, found)
    shades = (BLUE, "#5b8be8", "#1b4a9e", GREEN, "#63bf88", ORANGE, "#e0a13c", "#8a94a0")
    stages = {name: (seconds, shades[at % len(shades)]) for at, (name, seconds) in enumerate(measured.start.items())}
    finish(start, "Before the first step", "seconds")
    _row(start, stages)
    figure.suptitle(found.sentence, fontsize=10.5, color=INK)
    return figure


def _row(axes: Axes, parts: Mapping[str, tuple[float, str]]) -> None:
    """Draw parts one behind the other, with their names in a legend and the larger numbers in place."""
    whole, left = sum(value for value, _ in parts.values()), 0.0
    for name, (value, colour) in parts.items():
        axes.barh(0, value, left=left, color=colour, label=name, height=0.6)
        if value > _LABELLED * whole:
            axes.text(left + value / 2, 0, f"{value:.3g}", ha="center", va="center", color="white", fontsize=8.5)
        left += value
    axes.set_yticks([])
    axes.set_ylim(-0.5, 1.4)  # room for the legend
    axes.set_xlim(0, max(whole, 1e-9))
    axes.grid(visible=False)
    axes.legend(ncols=min(len(parts), 8), loc="upper left", frameon=False, fontsize=8, labelcolor=INK)


def _limits(axes: Axes, found: SpeedDiagnosis) -> None:
    measured = found.measured
    rows = {
        "as it trains": measured.real.median,
        "model alone": measured.model.median,
        "reading alone": measured.reading,
    }
    rows["augmentation alone"] = measured.changing
    if measured.copying is not None:
        rows["copying alone"] = measured.copying
    far = _FAR * max(measured.real.median, measured.model.median)
    for place, (name, pace) in enumerate(rows.items()):
        shown = min(pace, far)
        axes.barh(place, shown, color=GREEN if place == 0 else BLUE, height=0.65)
        text = f"{pace:,.0f}" + (" →" if pace > far else "")
        axes.text(shown, place, f" {text}", va="center", fontsize=8.5, color=INK)
        if name == "as it trains":
            axes.axvline(pace, color=GREEN, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, far * 1.12)
    axes.grid(visible=False)
    finish(axes, f"Limits; {measured.share:.0%} of the model's is reached", "images per second")
