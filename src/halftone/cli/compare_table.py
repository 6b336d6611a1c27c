"""A comparison while it goes on: a live table on a terminal, plain lines elsewhere."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from halftone.comparison.experiment import Begun, Compared, CompareEvent, RunDone
from halftone.comparison.records import Outcome, Variant, Verdict
from halftone.comparison.trainers.pool import Job, RunBegun, RunEpoch
from halftone.comparison.verdicts.pairing import measured
from halftone.comparison.verdicts.wording import amount, short_names


def watched(events: Iterator[CompareEvent]) -> Iterator[CompareEvent]:
    """Pass events on and show them, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        for event in events:
            _tell(console, event)
            yield event
        return
    shown = _Shown()
    with Live(console=console, refresh_per_second=4, get_renderable=shown.drawn, transient=False):
        for event in events:
            shown.hear(event)
            yield event


def _tell(console: Console, event: CompareEvent) -> None:
    """Say an event in a line."""
    if isinstance(event, Begun):
        config, variants = event.experiment.config, event.experiment.variants
        kept = f", {len(event.done)} of them done before" if event.done else ""
        console.print(f"comparing {len(variants)} variants in {config.seeds} seeds{kept}; in {event.folder}")
    elif isinstance(event, RunDone):
        console.print(_line(event.outcome), soft_wrap=True, markup=False, highlight=False)


def _line(outcome: Outcome) -> str:
    accuracy = outcome.metrics.accuracy if outcome.metrics is not None else None
    found = amount(accuracy, "accuracy") if accuracy is not None and outcome.status == "finished" else outcome.status
    spent = "" if outcome.train_seconds is None else f", {outcome.train_seconds:.1f} s"
    fault = f": {outcome.fault}" if outcome.fault else ""
    return f"seed {outcome.seed}, {outcome.variant}: {found}{spent}{fault}"


@dataclass(slots=True)
class _Shown:
    """What the table shows."""

    variants: tuple[Variant, ...] = ()
    seeds: int = 0
    measure: str = "accuracy"
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: tuple[Verdict, ...] = ()
    under_way: dict[str, str] = field(default_factory=dict)
    """By the run's folder: what it does now."""
    began: float = field(default_factory=time.monotonic)

    def hear(self, event: CompareEvent) -> None:
        """Take one event."""
        match event:
            case Begun(_, experiment, done):
                self.variants, self.seeds = experiment.variants, experiment.config.seeds
                self.outcomes = list(done)
            case RunBegun(job):
                self.under_way[str(job.path)] = f"{_name(job)}: begins"
            case RunEpoch(job, epoch, accuracy, _):
                shown = "" if accuracy is None else f", {amount(accuracy, 'accuracy')}"
                self.under_way[str(job.path)] = f"{_name(job)}: epoch {epoch}{shown}"
            case RunDone(outcome, verdicts):
                self.under_way = {
                    path: text for path, text in self.under_way.items() if not path.endswith(outcome.folder)
                }
                self.outcomes.append(outcome)
                self.verdicts = verdicts
            case Compared():
                self.under_way = {}

    def drawn(self) -> Group:
        """Draw it as it is now."""
        names = short_names(self.variants)
        table = Table("variant", "runs", "accuracy", "spread", "seconds", "MB", box=None, pad_edge=False)
        for variant in self.variants:
            table.add_row(names[variant.name], *self._row(variant))
        rest = len(self.variants) * self.seeds - len(self.outcomes)
        spent = time.monotonic() - self.began
        parts: list[Table | Text] = [table]
        parts += [Text(verdict.sentence, style="bold") for verdict in self.verdicts if verdict.kind != "too few"]
        parts += [Text(text, style="dim") for text in self.under_way.values()]
        if rest:
            parts.append(Text(f"{rest} runs to go, {spent:.0f} s so far", style="dim"))
        return Group(*parts)

    def _row(self, variant: Variant) -> list[str]:
        runs = [one for one in self.outcomes if one.variant == variant.name]
        found = [value for one in runs if one.status == "finished" and (value := measured(one, "accuracy")) is not None]
        seconds = [one.train_seconds for one in runs if one.train_seconds is not None]
        memory = [value for one in runs if (value := one.device_memory_mb or one.peak_memory_mb) is not None]
        faults = len([one for one in runs if one.status != "finished"])
        return [
            f"{len(runs)}/{self.seeds}" + (f" ({faults} faulty)" if faults else ""),
            amount(statistics.mean(found), "accuracy") if found else "",
            f"{100 * statistics.stdev(found):.2f}" if len(found) > 1 else "",
            f"{statistics.median(seconds):.1f}" if seconds else "",
            f"{statistics.median(memory):,.0f}" if memory else "",
        ]


def _name(job: Job) -> str:
    return f"seed {job.seed}, {job.variant.name}"
