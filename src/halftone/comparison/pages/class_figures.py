"""Pictures of what a variant does to single classes."""

from statistics import fmean
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halftone.comparison.pages.looks import Look, lay, looks, say_nothing, shortened
from halftone.comparison.records import Comparison, Outcome, Verdict
from halftone.comparison.verdicts.pairing import finished_pairs
from halftone.report.figures import INK, finish

Found = Literal["precision", "recall"]
_FOUND: tuple[Found, ...] = ("recall", "precision")
MOST_CLASSES = 15
"""Classes that are drawn; of more, those with the largest mean effects."""
Effects = dict[str, list[float]]
"""By class: variant less baseline in points, of each seed that both finished."""


def class_effects(comparison: Comparison, verdict: Verdict, found: Found) -> Effects:
    """Return what a variant does to each class, where both of a pair have a number."""
    effects: Effects = {}
    for pair in finished_pairs(verdict.variant, verdict.baseline, comparison.outcomes):
        ours, theirs = _by_class(pair.ours, found), _by_class(pair.theirs, found)
        for name in ours:
            if name in theirs:
                effects.setdefault(name, []).append(100 * (ours[name] - theirs[name]))
    return effects


def drawn_classes(comparison: Comparison, verdict: Verdict) -> list[str]:
    """Return the classes to draw, sorted by the mean effect on recall."""
    recall = _means(class_effects(comparison, verdict, "recall"))
    precision = _means(class_effects(comparison, verdict, "precision"))
    by_size = sorted(recall, key=lambda name: -max(abs(recall[name]), abs(precision.get(name, 0.0))))
    return sorted(by_size[:MOST_CLASSES], key=lambda name: recall[name])


def draw_classes(axes: Axes, look: Look, effects: Effects, names: list[str], title: str) -> None:
    """Draw a row per class: a dot per seed, the range of the seeds, and the mean."""
    known = [(height, effects[name]) for height, name in enumerate(names) if effects.get(name)]
    heights = [height for height, _ in known]
    axes.axvline(0, color=INK, linewidth=1)
    axes.hlines(
        heights, [min(of) for _, of in known], [max(of) for _, of in known], color=look.colour, linewidth=1.4, alpha=0.6
    )
    dots = [value for _, of in known for value in of]
    axes.scatter(dots, [height for height, of in known for _ in of], s=15, color=look.colour, alpha=0.55, linewidths=0)
    means = [fmean(of) for _, of in known]
    axes.plot(means, heights, marker=look.mark, markersize=6, color=look.colour, linestyle="none")
    axes.set_yticks(range(len(names)), [shortened(name, 22) for name in names], parse_math=False, fontsize=8.5)
    axes.set_ylim(-0.7, len(names) - 0.3)
    places = [0.0, *dots]
    room = 0.08 * (max(places) - min(places)) or 1.0
    axes.set_xlim(min(places) - room, max(places) + room)
    axes.grid(axis="x")
    finish(axes, title, "difference in points; further right is better")
    axes.title.set_parse_math(False)


def class_pictures(comparison: Comparison, verdict: Verdict) -> list[Figure]:
    """Draw recall and precision of one variant, each by itself; nothing where no class has both numbers."""
    names = drawn_classes(comparison, verdict)
    look, drawn = looks(comparison)[verdict.variant], []
    for found in _FOUND if names else ():
        figure, (axes,) = lay(1, (4.6, _height(names)))
        draw_classes(axes, look, class_effects(comparison, verdict, found), names, f"Difference of {found}")
        drawn.append(figure)
    return drawn


def class_panels(comparison: Comparison, verdicts: list[Verdict]) -> Figure:
    """Draw recall and precision of several variants below each other, for a paper."""
    classes = [drawn_classes(comparison, verdict) for verdict in verdicts]
    height = max((_height(names) for names in classes), default=2.0)
    figure, places = lay(2 * max(1, len(verdicts)), (4.2, height), columns=2)
    known = looks(comparison)
    for place in () if verdicts else places:
        say_nothing(place, "no two runs of a seed finished")
    for number, (verdict, names) in enumerate(zip(verdicts, classes, strict=True)):
        look = known[verdict.variant]
        for axes, found in zip(places[2 * number : 2 * number + 2], _FOUND, strict=True):
            draw_classes(axes, look, class_effects(comparison, verdict, found), names, f"{look.name}: {found}")
    return figure


def most_affected(comparison: Comparison, most: int) -> list[Verdict]:
    """Return the verdicts on those variants that change single classes most, in the order of the comparison."""

    def largest(verdict: Verdict) -> float:
        return max(map(abs, _means(class_effects(comparison, verdict, "recall")).values()), default=-1.0)

    known = [verdict for verdict in comparison.verdicts if drawn_classes(comparison, verdict)]
    kept = sorted(known, key=largest, reverse=True)[:most]
    return [verdict for verdict in known if verdict in kept]


def _by_class(run: Outcome, found: Found) -> dict[str, float]:
    """Return precision or recall of the classes that have one."""
    rows = run.metrics.classes if run.metrics is not None else ()
    values = ((row.name, row.recall if found == "recall" else row.precision) for row in rows)
    return {name: value for name, value in values if value is not None}


def _means(effects: Effects) -> dict[str, float]:
    return {name: fmean(values) for name, values in effects.items()}


def _height(names: list[str]) -> float:
    return 1.0 + 0.23 * max(2, len(names))
