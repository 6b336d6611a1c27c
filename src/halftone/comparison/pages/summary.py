"""The variants beside each other: the mean of each number over the finished runs, with the range of the seeds."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from halftone.comparison.pages.looks import finished
from halftone.comparison.records import HIGHER_IS_BETTER, SHARES, Comparison, Measure, Outcome
from halftone.comparison.verdicts.pairing import measured, seconds_to

Better = Literal["higher", "lower"]
_NAMES: dict[Measure, str] = {
    "accuracy": "accuracy, %",
    "loss": "loss, nats",
    "precision": "precision, %",
    "recall": "recall, %",
    "f1": "F1, %",
    "calibration_error": "calibration error, %",
}


class Cell(NamedTuple):
    """What one variant has of a number."""

    mean: float | None
    """None where no finished run has it."""
    text: str
    spread: str
    """The lowest and the highest of the seeds; or how many runs have the number at all."""
    best: bool
    """The best mean of the row, or a seed that reaches it; none where all variants do."""


class Row(NamedTuple):
    """One number of all variants."""

    name: str
    cells: tuple[Cell, ...]
    """In the order of the variants."""


class Summary(NamedTuple):
    """The table, and what it cannot tell."""

    rows: tuple[Row, ...]
    unknown: tuple[str, ...]
    """Numbers that no finished run has."""


def summarised(comparison: Comparison) -> Summary:
    """Return the numbers of all variants."""
    runs = [finished(comparison, variant.name) for variant in comparison.variants]
    rows = [_row(_NAMES[measure], runs, *_of_measure(measure)) for measure in _NAMES]
    target = comparison.target
    rows.append(_row("training time, s", runs, lambda run: run.train_seconds, amount, "lower"))
    rows.append(_row("images per second", runs, lambda run: run.images_per_second, amount, "higher"))
    if target is not None:
        rows.append(
            _row(f"time to {100 * target:.2f} %, s", runs, lambda run: seconds_to(target, run), amount, "lower")
        )
    rows.append(_row("process memory, MB", runs, lambda run: run.peak_memory_mb, amount, "lower"))
    rows.append(_row("accelerator memory, MB", runs, lambda run: run.device_memory_mb, amount, "lower"))
    rows.append(_row("energy, J", runs, lambda run: run.joules, amount, "lower"))
    rows.append(_row("skipped steps", runs, lambda run: run.skipped_steps, amount, "lower"))
    known = tuple(row for row in rows if any(cell.mean is not None for cell in row.cells))
    return Summary(known, tuple(row.name for row in rows if row not in known))


def ended(comparison: Comparison, variant: str) -> str:
    """Say how many runs of a variant finished, and what became of the others: `4 of 5, 1 diverged`."""
    statuses = [run.status for run in comparison.outcomes if run.variant == variant]
    others = [f", {statuses.count(word)} {word}" for word in ("diverged", "failed") if word in statuses]
    return f"{statuses.count('finished')} of {len(statuses)}{''.join(others)}"


def _of_measure(measure: Measure) -> tuple[Callable[[Outcome], float | None], Callable[[float], str], Better]:
    write = (lambda value: f"{100 * value:.2f}") if measure in SHARES else (lambda value: f"{value:.4f}")
    return lambda run: measured(run, measure), write, "higher" if measure in HIGHER_IS_BETTER else "lower"


def _row(
    name: str,
    runs: Sequence[Sequence[Outcome]],
    read: Callable[[Outcome], float | None],
    write: Callable[[float], str],
    better: Better,
) -> Row:
    columns = [[value for value in map(read, of_variant) if value is not None] for of_variant in runs]
    means = [fmean(values) if values else None for values in columns]
    known = [mean for mean in means if mean is not None]
    pick = max if better == "higher" else min
    best = pick(known, default=0.0)
    reach = [bool(values) and pick(best, *values) == pick(values) for values in columns]
    apart = sum(reach) < len(known)  # where all reach the best, none is marked
    cells = []
    for of_variant, values, mean, reaches in zip(runs, columns, means, reach, strict=True):
        spread = f"{write(min(values))} to {write(max(values))}" if len(values) > 1 else ""
        if 0 < len(values) < len(of_variant):
            spread = f"{len(values)} of {len(of_variant)} runs: {spread}".removesuffix(": ")
        cells.append(Cell(mean, "-" if mean is None else write(mean), spread, reaches and apart))
    return Row(name, tuple(cells))


def amount(value: float | None) -> str:
    """Write a quantity with about three digits; an unknown one is empty."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
