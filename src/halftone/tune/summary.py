"""What a study found: its files, and sentences that say how far they can be trusted."""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from halftone.base.files import write_json, write_text
from halftone.base.records import dump_yaml
from halftone.loop.stop import Metric
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan
from halftone.tune.records import Confirmation, Outcome, Summary

TRIALS, STUDY, BEST = "trials.csv", "study.json", "best.yaml"
_COLUMNS = ("trial", "status", "value", "test_value", "epoch", "epochs", "seconds")


def better(metric: Metric, value: float, other: float) -> bool:
    """Return whether a value beats another one."""
    return value < other if metric == "loss" else value > other


def best_outcome(outcomes: Sequence[Outcome], metric: Metric) -> Outcome | None:
    """Return the best finished trial, the earlier of two that are alike."""
    best: Outcome | None = None
    for outcome in outcomes:
        if outcome.status != "finished" or outcome.value is None:
            continue
        if best is None or best.value is None or better(metric, outcome.value, best.value):
            best = outcome
    return best


def confirmation(
    best: int, seeds: Sequence[int], defaults: Sequence[Outcome], tuned: Sequence[Outcome]
) -> Confirmation:
    """Compare the runs of the best trial with those of the defaults, seed by seed.

    Args:
        best: number of the trial.
        seeds: of the runs.
        defaults: one for each seed.
        tuned: likewise.
    """
    pairs = [
        (ours.value, theirs.value)
        for ours, theirs in zip(tuned, defaults, strict=True)
        if ours.value is not None and theirs.value is not None
    ]
    differences = [ours - theirs for ours, theirs in pairs]
    mean = statistics.mean(differences) if differences else None
    low = high = None
    if mean is not None and len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
        reach = float(stats.t.ppf(0.975, len(differences) - 1)) * error
        low, high = mean - reach, mean + reach
    return Confirmation(
        best=best,
        seeds=tuple(seeds),
        defaults=tuple(outcome.value for outcome in defaults),
        tuned=tuple(outcome.value for outcome in tuned),
        difference=mean,
        low=low,
        high=high,
    )


def in_words(summary: Summary) -> tuple[str, ...]:
    """Say what a study found, and how far it can be trusted."""
    metric, outcomes = summary.metric, summary.outcomes
    counts = Counter(outcome.status for outcome in outcomes)
    said = ", ".join(f"{counts[status]} {status}" for status in ("finished", "pruned", "diverged", "failed"))
    sentences = [f"{len(outcomes)} of {summary.config.trials} trials have ended: {said}"]
    best = None if summary.best is None else summary.outcome(summary.best)
    defaults = summary.outcome(0)
    which = "its best epoch" if summary.config.judged == "best" else "its last epoch"
    if best is None or best.value is None:
        return (*sentences, "none of them finished, so there is no best one")
    shown = f"{metric} {amount(metric, best.value)} ({which})"
    if best.number == 0:
        sentences.append(f"none beat the defaults, trial 0: {shown}")
    elif defaults is None or defaults.value is None:
        sentences.append(f"trial {best.number} is the best: {shown} with {settings_in_words(best.values)}")
        sentences.append("the defaults did not finish, so there is nothing to compare with")
    else:
        gain = difference(metric, best.value - defaults.value)
        sentences.append(
            f"trial {best.number} is the best: {shown} with {settings_in_words(best.values)}; the defaults, trial 0, "
            f"have {amount(metric, defaults.value)}: {gain}"
        )
    if defaults is not None and best.number and best.test_value is not None and defaults.test_value is not None:
        sentences.append(
            f"on the test part, which chose nothing: {amount(metric, best.test_value)} against "
            f"{amount(metric, defaults.test_value)} of the defaults"
        )
    if summary.confirmation is not None:
        sentences.append(_confirmed(summary.confirmation, metric))
    elif best.number:
        num_tried = sum(outcome.value is not None for outcome in outcomes)
        sentences.append(
            f"it is the best of {num_tried} on the images that chose it, with one seed each, so its figure is "
            "optimistic; --confirm 5 trains both again with fresh seeds"
        )
    return tuple(sentences)


def _confirmed(found: Confirmation, metric: Metric) -> str:
    count = len(found.seeds)
    of = f"{count} fresh seed{'' if count == 1 else 's'}"
    said = f"with {of}: trial {found.best} {_spread(found.tuned, metric)}, defaults {_spread(found.defaults, metric)}"
    if found.difference is None:
        return f"{said}; no pair of both finished"
    said += f"; difference {difference(metric, found.difference)}"
    if found.low is None or found.high is None:
        return f"{said}, from one pair"
    said += f", 95 % interval {difference(metric, found.low)} to {difference(metric, found.high)}"
    if found.low <= 0 <= found.high:
        return f"{said}: not shown to differ from the defaults"
    won = better(metric, found.difference, 0.0)
    return f"{said}: {'better' if won else 'worse'} than the defaults"


def _spread(values: Sequence[float | None], metric: Metric) -> str:
    """Write a mean with its standard deviation."""
    found = [value for value in values if value is not None]
    lost = f", {len(values) - len(found)} of {len(values)} did not finish" if len(found) < len(values) else ""
    if not found:
        return "never finished"
    mean = amount(metric, statistics.mean(found))
    return f"{mean} (deviation {amount(metric, statistics.stdev(found))}{lost})" if len(found) > 1 else f"{mean}{lost}"


def amount(metric: Metric, value: float | None) -> str:
    """Write a value of the metric: shares in per cent, the loss as it is."""
    if value is None:
        return "-"
    return f"{value:.4f}" if metric == "loss" else f"{100 * value:.2f} %"


def difference(metric: Metric, value: float) -> str:
    """Write a difference of two values of the metric: in points of per cent, or as it is."""
    return f"{value:+.4f}" if metric == "loss" else f"{100 * value:+.2f} points"


def settings_in_words(values: Mapping[str, str]) -> str:
    """Write settings as they are typed."""
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "the defaults"


def write_summary(summary: Summary) -> None:
    """Write study.json and trials.csv."""
    folder = Path(summary.folder)
    write_json(folder / STUDY, summary.model_dump(mode="json"))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*_COLUMNS, *summary.space, "folder", "fault"))
    for outcome in summary.outcomes:
        shown = (outcome.value, outcome.test_value, outcome.epoch, outcome.num_epochs, round(outcome.seconds, 3))
        numbers = ["" if value is None else str(value) for value in shown]
        chosen = [outcome.values.get(name, "") for name in summary.space]
        writer.writerow((outcome.number, outcome.status, *numbers, *chosen, outcome.folder, outcome.fault))
    write_text(folder / TRIALS, text.getvalue())


def write_best(outcome: Outcome, folder: Path) -> Path:
    """Write the recipe that trains a trial again: all that was settled for it, and the machine as it was asked for."""
    plan = RunFolder(folder / outcome.folder).read_plan()
    head = f"# trial {outcome.number}: {settings_in_words(outcome.values)}\n"
    path = folder / BEST
    write_text(path, head + dump_yaml(settled_recipe(plan)))
    return path


def settled_recipe(plan: Plan) -> dict[str, Any]:
    """Return what a plan settled as the mapping of a recipe: trained again, it makes the same plan.

    Where it is trained stays as it was asked for.
    """
    values = plan.settled.model_dump(mode="json", exclude_defaults=True)
    asked = plan.asked.model_dump(mode="json", exclude_unset=True)
    values.pop("run", None)
    rooms = ((values, asked, "device"), (values, asked, "threads"), (values["data"], asked.get("data", {}), "workers"))
    for room, wanted, name in rooms:
        room.pop(name, None)
        if name in wanted:
            room[name] = wanted[name]
    return values
