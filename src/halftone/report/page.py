"""The page: one self-contained file with curves, tables, mistakes, and the plan with its reasons."""

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field

from halftone.base.errors import ModelFileError, RecipeError
from halftone.base.files import read_json_value, write_text
from halftone.base.records import Record, dump_yaml
from halftone.metrics.report import Metrics
from halftone.metrics.verdict import ClassGap, accuracy_gap, class_gaps
from halftone.report import figures
from halftone.report.history import Column, History

_WAITED = ("data_wait_seconds", "train_seconds")
_MOST_CELLS = 30
"""Classes up to which the confusion matrix is a table with numbers."""


class ShownMistake(Record):
    """A picture that the best weights get wrong. It lies in the page itself: nothing is fetched to show it."""

    name: str
    true: str
    predicted: str
    confidence: float
    picture: str = Field(pattern=r"^data:image/jpeg;base64,[A-Za-z0-9+/=]*$")


def write_page(history: History) -> Path:
    """Write report.html into the run's folder."""
    plan, metrics = history.plan, history.metrics
    mistakes = _read_mistakes(history.folder.path / "mistakes.json")
    text = _template("run.html.j2").render(
        name=history.name,
        plan=plan,
        metrics=metrics,
        best_epoch=history.best_epoch,
        result=_result(history),
        verdict=history.verdict,
        class_gaps=_class_gaps(history),
        training=history.training,
        facts=_facts(history),
        curves=_drawn(history, figures.losses, figures.accuracies),
        numbers=_drawn(history, figures.rate, *figures.precision_panels(history)),
        confusion=_confusion(history),
        confusion_picture=figures.to_svg(figures.confusion(metrics))
        if metrics is not None and len(metrics.classes) > _MOST_CELLS
        else "",
        mistakes=mistakes,
        unreadable=history.unreadable,
        notices=history.notices,
        recipe=dump_yaml(plan.asked.model_dump(mode="json", exclude_unset=True)),
        environment=history.environment,
    )
    write_text(history.folder.report, text)
    return history.folder.report


def _read_mistakes(path: Path) -> list[ShownMistake]:
    if not path.is_file():
        return []
    rows = read_json_value(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ModelFileError(f"{path} is damaged: it holds no list of mistakes", hint="delete it")
    try:
        return [ShownMistake.parse(row, source=str(path)) for row in rows]
    except RecipeError as error:
        raise ModelFileError(f"damaged: {error}", hint="delete it") from error


def write_overview(histories: list[History], path: Path) -> None:
    """Write a page that shows several runs beside each other."""
    figure, (left, right) = figures.panels(2)
    colours = [figures.BLUE, figures.ORANGE, figures.GREEN, "#8b5cf6", "#c2255c", "#0c8599"]
    for number, history in enumerate(histories):
        colour = colours[number % len(colours)]
        epochs = history.epochs.get("epoch", [])
        figures.line(left, epochs, history.epochs.get("val_loss", []), history.name, colour)
        figures.line(right, epochs, figures.percent(history.epochs.get("val_accuracy", [])), history.name, colour)
    figures.finish(left, "Validation loss", "epoch")
    figures.finish(right, "Validation accuracy, %", "epoch")
    runs = [(history, dict(_facts(history))) for history in histories]
    write_text(path, _template("overview.html.j2").render(runs=runs, curves=figures.to_svg(figure)))


def _drawn(history: History, *draws: figures.Draw) -> list[str]:
    """Draw each panel by itself, so that they stand below each other on a narrow screen."""
    return [figures.to_svg(figures.side_by_side(history, draw)) for draw in draws]


def _template(name: str) -> Any:
    return Environment(
        loader=PackageLoader("halftone.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template(name)


def _result(history: History) -> str:
    """Say how good the best epoch was."""
    metrics = history.metrics
    if metrics is None or metrics.accuracy is None:
        return ""
    looks = f", looked at in {metrics.views} views," if metrics.views > 1 else ""
    return (
        f"{100 * metrics.accuracy:.2f} % of {metrics.num_images:,} validation images{looks} are right after epoch "
        f"{history.best_epoch}, the best by {history.plan.settled.stop.metric}."
    )


def _class_gaps(history: History) -> dict[str, ClassGap]:
    """Return the gap between training and validation of each class, by its name."""
    if history.training is None or history.metrics is None:
        return {}
    return {gap.name: gap for gap in class_gaps(history.training, history.metrics)}


def _facts(history: History) -> list[tuple[str, str]]:
    """Return the numbers at the head of the page."""
    metrics, plan, epochs = history.metrics, history.plan, history.epochs
    rows: list[tuple[str, str]] = []
    if metrics is not None:
        rows += [
            ("accuracy" if metrics.views == 1 else f"accuracy, {metrics.views} views", share(metrics.accuracy)),
            *_gap_facts(history.training, metrics),
            ("macro F1", share(metrics.f1)),
            ("precision", share(metrics.precision)),
            ("recall", share(metrics.recall)),
            ("calibration error", share(metrics.calibration_error)),
        ]
    if epochs.get("seconds"):
        rows.append(("wall time", f"{epochs['seconds'][-1] or 0:.0f} s"))
        speeds = sorted(value for value in epochs["images_per_second"] if value)
        rows.append(("images/s, median epoch", f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "-"))
        rows += _waiting(epochs)
        rows.append(("peak memory", f"{max(value or 0 for value in epochs['peak_memory_mb']):,.0f} MB"))
        rows.append(("skipped steps", f"{epochs['skipped_steps'][-1] or 0:.0f}"))
    clip = plan.settled.optimizer.clip
    if clip is not None:
        clipped = sum(norm is not None and clip < norm < math.inf for norm in history.steps.get("grad_norm", []))
        rows.append(("clipped steps", f"{clipped:,}"))
    parts = [number for number in epochs.get("num_parts", []) if number is not None]
    if parts and max(parts) > 1:
        rows.append(("passes per batch", f"{max(parts):.0f}"))
    rows.append(("precision mode", plan.settled.precision.mode))
    return rows


def _waiting(epochs: dict[str, Column]) -> list[tuple[str, str]]:
    """Return the share of training in which the host waited for images; runs of older versions did not count it."""
    waited, trained = (sum(value or 0.0 for value in epochs.get(name, [])) for name in _WAITED)
    return [("waiting for data", f"{waited / trained:.1%} of training")] if trained else []


def _gap_facts(training: Metrics | None, validation: Metrics) -> list[tuple[str, str]]:
    gap = None if training is None else accuracy_gap(training, validation)
    if training is None or gap is None:
        return []
    return [("training accuracy", share(training.accuracy)), ("gap", str(gap))]


def _confusion(history: History) -> list[list[tuple[int, float]]]:
    """Return the cells of the confusion matrix with their share of the row, or nothing for many classes."""
    metrics = history.metrics
    if metrics is None or len(metrics.classes) > _MOST_CELLS:
        return []
    return [[(cell, cell / max(sum(row), 1)) for cell in row] for row in metrics.confusion]


def share(value: float | None) -> str:
    """Write a share as per cent, and an undefined one as such."""
    return "undefined" if value is None else f"{100 * value:.2f} %"
