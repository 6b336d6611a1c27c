"""Contestants take turns, so that a noisy machine is noisy to all of them; what counts is the ratio within a round."""

import gc
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from halftone.base.files import write_json, write_text
from halftone.system.device import cpu_name
from halftone.system.threads import usable_cores

RESULTS = Path(__file__).parent / "results"
LEAST_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the work."""

    name: str
    measure: Callable[[], Sequence[float]]
    """Does the work once and returns the seconds of each step, taken with `time.perf_counter`."""


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised: a contestant's mean step beside that of the reference, as the median over the rounds."""

    contestant: str
    kind: Literal["microseconds", "ratio"]
    """Seconds on top of the reference, times a million; or time as a multiple of the reference's."""
    limit: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range around it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise some values."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 0, sign: str = "") -> str:
        """Write it as `median (least to most)`."""
        return f"{self.median:{sign}.{digits}f} ({self.least:{sign}.{digits}f} to {self.most:{sign}.{digits}f})"


@dataclass(slots=True)
class Race:
    """One comparison: who took part, against whom, and what was found."""

    title: str
    reference: str
    """The contestant that all others are compared with."""
    settings: Mapping[str, Any]
    targets: Sequence[Target] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    """Who could not take part, and why."""
    means: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of the mean step of each contestant in each round: all that happened, divided by the steps."""
    medians: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of the median step: without what comes only now and then, and without most of the noise."""

    def run(self, contestants: Sequence[Contestant], *, rounds: int) -> None:
        """Let the contestants take turns: one round that does not count, then `rounds` that do."""
        if rounds < LEAST_ROUNDS:
            raise ValueError(f"{rounds} rounds say little; run at least {LEAST_ROUNDS}")
        self.means = {contestant.name: [] for contestant in contestants}
        self.medians = {contestant.name: [] for contestant in contestants}
        turns = [(turn, contestant) for turn in range(rounds + 1) for contestant in contestants]
        for turn, contestant in track(turns, description=self.title, console=Console(stderr=True), transient=True):
            gc.collect()
            seconds = contestant.measure()
            if turn:
                self.means[contestant.name].append(statistics.mean(seconds))
                self.medians[contestant.name].append(statistics.median(seconds))

    def microseconds(self, name: str) -> Spread:
        """Return the mean step in microseconds."""
        return Spread.of([second * 1e6 for second in self.means[name]])

    def over(self, name: str) -> Spread:
        """Return microseconds per step on top of the reference in the same round."""
        return Spread.of([(own - reference) * 1e6 for own, reference in self._pairs(name, self.means)])

    def ratio(self, name: str) -> Spread:
        """Return the time per step as a multiple of the reference's in the same round."""
        return Spread.of([own / reference for own, reference in self._pairs(name, self.means)])

    def usual(self, name: str) -> str:
        """Return the median step in microseconds, and how much that is over the reference's."""
        over = statistics.median((own - reference) * 1e6 for own, reference in self._pairs(name, self.medians))
        return f"{statistics.median(self.medians[name]) * 1e6:.0f} ({over:+.0f})"

    def found(self, target: Target) -> float:
        """Return the median that a target is about."""
        return (self.over if target.kind == "microseconds" else self.ratio)(target.contestant).median

    def _pairs(self, name: str, found: Mapping[str, list[float]]) -> Iterator[tuple[float, float]]:
        return zip(found[name], found[self.reference], strict=True)

    def verdicts(self) -> Iterator[str]:
        """Say of each target whether it was met."""
        for target in self.targets:
            if target.contestant in self.means:
                found = self.found(target)
                unit, digits = ("us over", 0) if target.kind == "microseconds" else ("times", 3)
                yield (
                    f"{'met' if found <= target.limit else 'MISSED'}: {target.contestant}, at most {target.limit:g} "
                    f"{unit} {self.reference}; found {found:.{digits}f}"
                )

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Return the table, in the order of `COLUMNS`."""
        for name in self.means:
            mean = self.microseconds(name).text()
            if name == self.reference:
                yield name, mean, "-", "1", self.usual(name).partition(" ")[0]
            else:
                yield name, mean, self.over(name).text(sign="+"), self.ratio(name).text(3), self.usual(name)

    def to_mapping(self) -> dict[str, Any]:
        """Return everything for the JSON file."""
        return {
            "title": self.title,
            "reference": self.reference,
            "settings": dict(self.settings),
            "mean_seconds_per_step": self.means,
            "median_seconds_per_step": self.medians,
            "targets": [
                {
                    "contestant": target.contestant,
                    "kind": target.kind,
                    "limit": target.limit,
                    "found": self.found(target),
                    "met": self.found(target) <= target.limit,
                }
                for target in self.targets
                if target.contestant in self.means
            ],
            "absent": dict(self.absent),
        }


COLUMNS = ("contestant", "us per step", "over the reference", "times the reference", "median step (over)")
HOW_TO_READ = (
    "Of the mean step in each round: the median over the rounds (least to most). Differences and ratios are taken "
    "within a round, where both saw the same machine, before the median. Last, the median step, which leaves out what "
    "happens only now and then and most of what else the machine was doing."
)


def machine(libraries: Sequence[str] = ()) -> dict[str, Any]:
    """Describe where this runs, without a word about whose machine it is."""
    versions = {}
    for library in ("torch", *libraries):
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "absent"
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": versions,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def command_line(module: str) -> str:
    """Return the command that was given; of paths only the last part, since the rest is nobody's business."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python", "-m", module, *words])


def write_races(name: str, claim: str, races: Sequence[Race], where: Mapping[str, Any], command: str) -> None:
    """Write results/NAME.json and results/NAME.md."""
    RESULTS.mkdir(exist_ok=True)
    values = {"name": name, "claim": claim, "command": command, "machine": dict(where)}
    write_json(RESULTS / f"{name}.json", values | {"races": [race.to_mapping() for race in races]})
    parts = [f"# {name}", claim, f"`{command}`", describe(where), HOW_TO_READ]
    for race in races:
        settings = ", ".join(f"{key} {value}" for key, value in race.settings.items())
        ends = [*race.verdicts(), *(f"absent: {rival} ({reason})" for rival, reason in race.absent.items())]
        parts += [f"## {race.title}", f"{settings}.", markdown_table(COLUMNS, race.rows())]
        parts.append("\n".join(f"- {end}" for end in ends))
    write_text(RESULTS / f"{name}.md", "\n\n".join(parts) + "\n")


def describe(where: Mapping[str, Any]) -> str:
    """Write the machine as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    return (
        f"{where['cpu']}, {where['cores']} cores, GPU {where['gpu']}, load "
        f"{where['load_before']} before the start, {where['date']}; Python {where['python']}, {versions}."
    )


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table in Markdown, numbers to the right."""
    lines = [" | ".join(columns), " | ".join(["---", *["---:"] * (len(columns) - 1)]), *(" | ".join(r) for r in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def show_race(console: Console, race: Race) -> None:
    """Print the table of a race and what became of its targets."""
    table = Table(title=race.title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in race.rows():
        table.add_row(*row)
    console.print(table)
    for line in race.verdicts():
        console.print(line, highlight=False, style="red" if line.startswith("MISSED") else "green")
    for name, reason in race.absent.items():
        console.print(f"absent: {name} ({reason})", highlight=False, style="yellow")


@contextmanager
def silence() -> Iterator[None]:
    """Send what a contestant prints to the null device: it still does the work of printing."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


class Clock:
    """Takes the time of steps from inside of a loop, whoever runs it: one tick per step.

    What a framework does before the first step and after the last one is left out.
    """

    def __init__(self, *, warm: int, steps: int) -> None:
        """Leave out `warm` steps and count `steps`; it wants one tick more than both together."""
        self._warm, self._steps = warm, steps
        self._ticks: list[float] = []

    def tick(self) -> None:
        """Note the time."""
        self._ticks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds of each step that counts."""
        if len(self._ticks) != self._warm + self._steps + 1:
            raise RuntimeError(f"{len(self._ticks)} ticks for {self._warm} + {self._steps} steps and one")
        return [after - before for before, after in pairwise(self._ticks[self._warm :])]


def held_bytes() -> int:
    """Return the memory that this process holds now."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
