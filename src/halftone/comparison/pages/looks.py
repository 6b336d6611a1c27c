"""How a comparison is drawn: a colour, a line and a mark for each variant, and panels in the style of the reports."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from halftone.comparison.records import Comparison, Outcome
from halftone.comparison.verdicts.wording import short_names
from halftone.report.figures import INK, panels

COLOURS = ("#3377dd", "#999911", "#bb3399", "#557733", "#cc7799")
"""At least 3 to 1 against white and against the dark theme, and apart in each kind of colour blindness.

The baseline has the colour of the text. Lines and marks differ as well, so that nothing hangs on colour alone.
"""
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5))
_MARKS = ("o", "s", "^", "D", "v", "P", "<", ">", "p", "h", "*")
BROKEN = "X"
"""Where a run ended that did not finish."""
_LONGEST = 44
"""Characters of a name in a figure."""

Draw = Callable[[Axes, Comparison], None]
"""Draws one panel."""


class Look(NamedTuple):
    """Of one variant, the same in every figure."""

    name: str
    """Short, for figures."""
    colour: str
    dash: tuple[float, ...]
    """Lengths of dashes and gaps in points; none for a whole line."""
    mark: str
    """As matplotlib names it."""


def looks(comparison: Comparison) -> dict[str, Look]:
    """Return the look of each variant by its name; the baseline stands out by having no colour."""
    names = short_names(comparison.variants)
    found = {}
    for number, variant in enumerate(comparison.variants):
        colour = COLOURS[(number - 1) % len(COLOURS)] if number else INK
        dash = _DASHES[(number - 1) // len(COLOURS) % len(_DASHES)] if number else ()
        found[variant.name] = Look(shortened(names[variant.name]), colour, dash, _MARKS[number % len(_MARKS)])
    return found


def shortened(name: str, longest: int = _LONGEST) -> str:
    """Cut a long name in its middle: both ends tell variants apart."""
    if len(name) <= longest:
        return name
    kept = longest - 1
    return f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"


def finished(comparison: Comparison, variant: str) -> list[Outcome]:
    """Return the runs of a variant that came to their end."""
    return [run for run in comparison.outcomes if run.variant == variant and run.status == "finished"]


def lay(count: int, size: tuple[float, float], columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels of a size in inches each."""
    across = columns or count
    rows = -(-count // across)
    figure, places = panels(count, size=(size[0] * across, size[1] * rows), columns=across)
    for place in places:  # ticks are made when a figure is written, and must not ask for the style then
        place.tick_params(labelsize=9, colors=INK, grid_color=INK, grid_alpha=0.25)
    return figure, places


def alone(draw: Draw, comparison: Comparison, size: tuple[float, float] = (4.6, 3.1)) -> Figure:
    """Draw one panel by itself."""
    figure, (axes,) = lay(1, size)
    draw(axes, comparison)
    return figure


def say_nothing(axes: Axes, why: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", fontsize=9, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])


def add_legend(figure: Figure, comparison: Comparison, *, broken: bool = False) -> None:
    """Explain the looks below a figure, and where asked the mark of runs that did not finish."""
    known = list(looks(comparison).values())
    handles = [
        Line2D([], [], color=look.colour, marker=look.mark, linestyle=(0, look.dash) if look.dash else "-")
        for look in known
    ]
    names = [look.name for look in known]
    if broken and any(run.status != "finished" for run in comparison.outcomes):
        handles.append(Line2D([], [], color=INK, marker=BROKEN, linestyle=":"))
        names.append("a run that did not finish")
    across = int(figure.get_figwidth() / (0.8 + 0.075 * max(map(len, names))))
    legend = figure.legend(
        handles, ["\u200a" + name for name in names], loc="outside lower center", labelcolor=INK, fontsize=9,
        ncols=max(1, min(len(names), across)), frameon=False,
    )  # fmt: skip
    for text in legend.get_texts():  # a name may begin with `_` and hold `$`; neither is to mean anything
        text.set_parse_math(False)


def swatch(look: Look) -> tuple[str, str]:
    """Return dashes and mark of a look as SVG has them, in a box of 30 by 12."""
    style = MarkerStyle(look.mark)
    outline = np.asarray(style.get_path().transformed(style.get_transform()).to_polygons()[0])
    points = " ".join(f"{15 + 8 * x:.1f},{6 - 8 * y:.1f}" for x, y in outline.tolist())
    return " ".join(f"{length:g}" for length in look.dash), points
