"""Some steps of each stretch of both trainings, in alternation."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from benchmarks import harness
from benchmarks.cifar10_94.sides import run_ours, run_plain
from benchmarks.cifar10_94.task import PLAIN_ENDS, judged_ratio, our_ends, setting
from halftone.base.tables import read_table


@dataclass(frozen=True, slots=True)
class Timed:
    """The seconds of a step in one round, the median of each stretch."""

    stretches: tuple[float, ...]

    def whole(self, ends: Mapping[str, int]) -> float:
        """Return the seconds of all steps of a training whose stretches end so."""
        lengths = [end - start for start, end in pairwise([0, *ends.values()])]
        return sum(length * seconds for length, seconds in zip(lengths, self.stretches, strict=True))


def race_steps(settings: argparse.Namespace, data: str) -> tuple[dict[str, Any], list[str]]:
    """Time some steps of each stretch of both, in alternation."""
    each, ends = settings.steps, our_ends()
    ours, plain = [], []
    for turn in range(settings.rounds):
        with tempfile.TemporaryDirectory() as folder:
            run, _ = run_ours(settings, data, turn, folder, *_shortened(ends, each))
            taken = [float(row["seconds"]) for row in read_table(run / "steps.csv")]
        ours.append(_timed([end - start for start, end in pairwise([0.0, *taken])], each))
        said, _ = run_plain(settings, data, turn, "--steps", str(2 * each), "--bias-steps", str(each))
        plain.append(_timed(said["steps"], each))
        print(f"round {turn + 1}: {ours[-1].stretches} and {plain[-1].stretches} s", file=sys.stderr)
    ratios = [mine.whole(ends) / other.whole(PLAIN_ENDS) for mine, other in zip(ours, plain, strict=True)]
    heads = ("", "steps", "seconds a step, median of rounds (least to most)")
    table = []
    for who, found, stretches in (
        ("halftone, by its command line", ours, ends),
        ("plain eager PyTorch", plain, PLAIN_ENDS),
    ):
        for number, (start, end) in enumerate(pairwise([0, *stretches.values()])):
            seconds = harness.Spread.of([one.stretches[number] for one in found]).text(3)
            table.append([who, f"{start} to {end}", seconds])
        whole = harness.Spread.of([one.whole(stretches) for one in found]).text(0)
        table.append([who, "all", f"{whole}, together"])
    parts = [
        f"{settings.rounds} rounds of {each} steps of each stretch, in alternation. {setting(settings)}",
        harness.markdown_table(heads, table),
        judged_ratio(
            ratios, "all steps of a training, within a round", shortened=settings.rounds < harness.LEAST_ROUNDS
        ),
    ]
    return {"ours": [asdict(one) for one in ours], "plain": [asdict(one) for one in plain]}, parts


def _shortened(ends: Mapping[str, int], each: int) -> Iterator[str]:
    """Yield the flags with which the recipe takes so many steps of each of its stretches."""
    yield from ("--max-steps", str(each * len(ends)), "--data.views", "1", "--no-run.report", "--run.fit-images", "0")
    new = {name: f"{name}={each * (number + 1)}it" for number, name in enumerate(ends) if name}
    sizes = [text for name, text in new.items() if name.isdecimal()]
    yield from ("--data.progressive", ",".join(sizes) or "none")
    yield from ("--weights.freeze-after", ",".join(text for name, text in new.items() if not name.isdecimal()))


def _timed(seconds: Sequence[float], each: int) -> Timed:
    """Summarise steps, the first of each stretch left out: it prepares."""
    starts = range(0, len(seconds), each)
    return Timed(tuple(statistics.median(seconds[start + 1 : start + each]) for start in starts))
