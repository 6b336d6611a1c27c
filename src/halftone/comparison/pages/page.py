"""The page of a comparison: verdicts, numbers, pictures, methods and every run, in one self-contained file."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from halftone.base.files import write_text
from halftone.comparison.pages import figures
from halftone.comparison.pages.class_figures import MOST_CLASSES, class_pictures, most_affected
from halftone.comparison.pages.looks import BROKEN, Draw, Look, alone, looks, swatch
from halftone.comparison.pages.summary import amount, ended, summarised
from halftone.comparison.records import Comparison, Outcome, Verdict, VerdictKind
from halftone.comparison.verdicts.pairing import measured, seconds_to
from halftone.comparison.verdicts.wording import WORDS, margin_text, percent, short_names
from halftone.report.figures import INK, to_svg

_MARKS: dict[VerdictKind, tuple[str, str]] = {
    "equivalent": ("good", "no difference that counts"),
    "better": ("good", "better"),
    "worse": ("bad", "worse"),
    "not shown": ("open", "not shown"),
    "diverges": ("bad", "diverges"),
    "failed": ("bad", "failed"),
    "too few": ("open", "too few runs"),
}
"""How a verdict is marked: colour and words."""
_MOST_SHOWN, _MOST_OPEN = 6, 2
"""Variants whose classes are shown, and those among them without being asked for."""


class Key(NamedTuple):
    """One line of the legend."""

    name: str
    colour: str
    dash: str
    points: str
    """Outline of the mark."""


class RunRow(NamedTuple):
    """One run in the table of all."""

    run: Outcome
    name: str
    link: str
    """To its report; empty if there is none."""
    numbers: tuple[str, ...]


def write_page(comparison: Comparison, folder: Path) -> Path:
    """Write compare.html into the folder of a comparison."""
    names, measure = short_names(comparison.variants), comparison.config.measure
    broken = [run for run in comparison.outcomes if run.status != "finished"]
    affected = most_affected(comparison, _MOST_SHOWN)
    classes = {verdict.variant: class_pictures(comparison, verdict) for verdict in affected}
    text = _template().render(
        comparison=comparison,
        names=names,
        num_seeds=len({outcome.seed for outcome in comparison.outcomes}),
        measure=WORDS[measure].noun,
        margin=margin_text(comparison.config.margin / 100, measure),
        confidence=_interval_confidence(comparison.verdicts),
        marks=_MARKS,
        ended={variant.name: ended(comparison, variant.name) for variant in comparison.variants},
        summary=summarised(comparison),
        settled=_settled(comparison),
        keys=[_key(look) for look in looks(comparison).values()],
        broken_key=_key(Look("a run that did not finish", INK, (1.5, 1.5), BROKEN)) if broken else None,
        differences=to_svg(alone(figures.differences, comparison, (4.8, figures.differences_height(comparison)))),
        curves=_drawn(comparison, figures.accuracy_curves, figures.loss_curves),
        trades=_drawn(comparison, figures.time_and_accuracy, figures.memory_and_accuracy),
        classes=[(names[name], list(map(to_svg, drawn))) for name, drawn in classes.items()],
        most_classes=MOST_CLASSES,
        most_open=_MOST_OPEN,
        num_classes=max((len(run.metrics.classes) for run in comparison.outcomes if run.metrics), default=0),
        timelines=_drawn(comparison, *figures.timelines(comparison)),
        methods=list(dict.fromkeys(method for verdict in comparison.verdicts for method in verdict.methods)),
        runs=[_run_row(comparison, run, names, folder) for run in comparison.outcomes],
    )
    path = folder / "compare.html"
    write_text(path, text)
    return path


def _drawn(comparison: Comparison, *draws: Draw) -> list[str]:
    """Draw each panel by itself, so that they stand below each other on a narrow screen."""
    return [to_svg(alone(draw, comparison)) for draw in draws]


def _key(look: Look) -> Key:
    dash, points = swatch(look)
    return Key(look.name, "currentColor" if look.colour == INK else look.colour, dash, points)


def _interval_confidence(verdicts: tuple[Verdict, ...]) -> str:
    """Return the confidence of the intervals that are drawn; with several verdicts it is a corrected one."""
    found = [verdict.difference.confidence for verdict in verdicts if verdict.difference is not None]
    return percent(found[0]) if found else ""


def _settled(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return what the plans decided: for each setting the values of each variant, with all forms that occur."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for run in comparison.outcomes:
        for setting, value in run.settled.items():
            found.setdefault(setting, {}).setdefault(run.variant, {})[value] = None
    variants = [variant.name for variant in comparison.variants]
    return [(setting, [" / ".join(of.get(name, {})) for name in variants]) for setting, of in found.items()]


def _run_row(comparison: Comparison, run: Outcome, names: dict[str, str], folder: Path) -> RunRow:
    """Return one line of the table of runs, with a link to the run's own report if it has one."""
    report = Path(run.folder) / "report.html"
    inside = not Path(run.folder).is_absolute() and (folder / report).is_file()
    accuracy, loss, target = measured(run, "accuracy"), measured(run, "loss"), comparison.target
    numbers = (
        "" if accuracy is None else f"{100 * accuracy:.2f}",
        "" if loss is None else f"{loss:.4f}",
        f"{run.best_epoch} of {len(run.epochs)}" if run.best_epoch else f"{len(run.epochs)}",
        amount(run.startup_seconds),
        amount(run.train_seconds),
        amount(None if target is None else seconds_to(target, run)),
        amount(run.images_per_second),
        amount(run.device_memory_mb or run.peak_memory_mb),
        amount(run.joules),
        str(run.skipped_steps),
    )
    return RunRow(run, names.get(run.variant, run.variant), f"./{quote(report.as_posix())}" if inside else "", numbers)


def _template() -> Any:
    """Return the template, which extends that of the reports."""
    return Environment(
        loader=ChoiceLoader([PackageLoader("halftone.comparison.pages"), PackageLoader("halftone.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    ).get_template("compare.html.j2")
