"""How often the verdicts of `halftone compare` are wrong, in simulated experiments.

    python -m benchmarks.coverage

Each experiment draws the differences between variant and baseline from a normal distribution, makes the outcomes of
runs from them, and has them judged as a comparison of real runs is.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks import harness
from halftone.base.files import write_json, write_text
from halftone.comparison.records import CompareConfig, Outcome, Variant, Verdict
from halftone.comparison.verdicts.sequential import FIRST_LOOK, is_decided, num_looks
from halftone.comparison.verdicts.statistics import Sample, equivalence, further_pairs, summarise
from halftone.comparison.verdicts.verdict import judge
from halftone.metrics.report import Metrics

CLAIM = (
    "Without a true difference, the interval of `halftone compare` covers zero in 93 to 97 % of all comparisons; where "
    "the true difference is the margin, equivalence is wrongly declared in at most 5 %. Both promises hold for "
    "coarse accuracies, for several variants together, and with early looks."
)
FINE = 10**9
"""So many images that accuracies are as good as continuous."""
MARGIN = CompareConfig().margin
_EMPTY: dict[str, Any] = dict.fromkeys(("loss", "top5", "precision", "recall", "f1", "calibration_error"))


@dataclass(frozen=True, slots=True)
class Setting:
    """What is true in an experiment, and how it is run; points of accuracy."""

    mean: float
    deviation: float
    seeds: int
    num_variants: int = 1
    """Judged against the baseline."""
    num_images: int = FINE
    until: Literal["all", "decided"] = "all"

    @property
    def config(self) -> CompareConfig:
        """How it is judged."""
        return CompareConfig(seeds=self.seeds, until=self.until)


@dataclass(frozen=True, slots=True)
class Found:
    """What came out of many experiments of one setting; shares of the experiments."""

    setting: Setting
    covered: float
    """All intervals hold the truth."""
    wrong: float
    """Some verdict is wrong: a difference where none is, or equivalence at the margin."""
    clear: float
    """Every verdict is equivalent, better or worse."""
    mean_seeds: float
    num_experiments: int

    @property
    def promises_kept(self) -> bool:
        """Whether both promises hold, up to three standard errors of the simulation."""
        error = 3 * standard_error(0.05, self.num_experiments)
        return self.covered >= 0.95 - error and self.wrong <= 0.05 + error


@dataclass(frozen=True, slots=True)
class Power:
    """Whether the promised further seeds show equivalence; points."""

    mean: float
    deviation: float
    seeds: int
    num_more: float
    """Seeds on top of these; their median where they come from what was observed."""
    shown: float
    """Share of the experiments with so many seeds that show it."""
    observed: bool
    """Whether mean and spread were taken from the first seeds of each experiment instead of from the truth."""


PLAIN = (*(Setting(0.0, 1.0, seeds) for seeds in (3, 5, 10)), Setting(0.0, 0.2, 5))
SETTINGS = (
    *PLAIN,
    Setting(0.0, 0.15, 5, num_images=360),
    Setting(0.0, 1.0, 5, num_variants=3),
    *(Setting(0.0, 1.0, seeds, until="decided") for seeds in (5, 10)),
    *(Setting(0.0, 0.2, seeds, until="decided") for seeds in (5, 10)),
    *(Setting(MARGIN, 0.1, seeds) for seeds in (3, 5, 10)),
    Setting(MARGIN, 0.5, 5),
    Setting(MARGIN, 0.15, 5, num_images=360),
    Setting(MARGIN, 0.1, 5, num_variants=3),
    *(Setting(MARGIN, 0.1, seeds, until="decided") for seeds in (5, 10)),
)
POWERS = ((0.0, 0.4, 5), (0.2, 0.4, 5), (-0.3, 0.3, 3))
"""Mean, deviation and first seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=20_000, help="for each setting")
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    options = parser.parse_args()
    where = harness.machine(("numpy", "scipy"))
    found = [simulate(setting, options.experiments, seed) for seed, setting in enumerate(SETTINGS)]
    powers = [
        power
        for seed, setting in enumerate(POWERS)
        for power in (power_of_truth(*setting, options.experiments, seed), power_of_seen(*setting, 2000, seed))
    ]
    text = report(found, powers, where)
    print(text)
    if not options.dry:
        write_text(harness.RESULTS / "coverage.md", text)
        values = {"found": [asdict(one) for one in found], "powers": [asdict(one) for one in powers]}
        write_json(harness.RESULTS / "coverage.json", {"machine": where, **values})


def standard_error(share: float, num_experiments: int) -> float:
    return math.sqrt(share * (1 - share) / num_experiments)


def simulate(setting: Setting, num_experiments: int, seed: int) -> Found:
    """Run many experiments of one setting."""
    rng = np.random.default_rng([seed, 1])
    covered = wrong = clear = seeds = 0
    kinds = {"better", "worse"} if setting.mean == 0 else {"equivalent"}
    title = f"{setting.mean:g} points, {setting.seeds} seeds"
    for _ in track(range(num_experiments), title, console=Console(stderr=True), transient=True):
        verdicts, num_seeds = run(setting, rng)
        intervals = [one.difference for one in verdicts if one.difference is not None]
        covered += all(one.low <= setting.mean / 100 <= one.high for one in intervals)
        wrong += any(one.kind in kinds for one in verdicts)
        clear += all(one.kind in ("equivalent", "better", "worse") for one in verdicts)
        seeds += num_seeds
    shares = (covered / num_experiments, wrong / num_experiments, clear / num_experiments)
    return Found(setting, *shares, seeds / num_experiments, num_experiments)


def run(setting: Setting, rng: np.random.Generator) -> tuple[tuple[Verdict, ...], int]:
    """Run one experiment; return its verdicts and how many seeds it took."""
    variants = tuple(
        Variant(name=f"v={number}", changes={"v": str(number)}) for number in range(1 + setting.num_variants)
    )
    accuracies = draw(setting, rng)
    config = setting.config
    for seeds in looks(setting):
        outcomes = outcomes_of(accuracies[:, :seeds], variants, setting.num_images)
        verdicts = judge(variants, outcomes, config)
        if is_decided(variants, outcomes, verdicts):
            break
    return verdicts, seeds


def looks(setting: Setting) -> Iterator[int]:
    """Yield after how many seeds the experiment is looked at."""
    yield from range(FIRST_LOOK, setting.seeds + 1) if setting.until == "decided" else (setting.seeds,)


def draw(setting: Setting, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw accuracies [baseline and variants, seeds]; coarse ones are counts of images."""
    shape = (setting.num_variants, setting.seeds)
    baseline = 0.97 + 0.002 * rng.standard_normal(setting.seeds)
    others = baseline + (setting.mean + setting.deviation * rng.standard_normal(shape)) / 100
    accuracies = np.vstack([baseline, others])
    if setting.num_images == FINE:
        return accuracies
    return np.round(accuracies * setting.num_images) / setting.num_images


def outcomes_of(
    accuracies: npt.NDArray[np.float64], variants: Sequence[Variant], num_images: int
) -> tuple[Outcome, ...]:
    """Make finished outcomes from accuracies [variants, seeds]."""
    return tuple(
        Outcome(
            variant=variant.name,
            seed=seed,
            folder="",
            status="finished",
            metrics=Metrics(num_images=num_images, accuracy=accuracy, classes=(), confusion=(), **_EMPTY),
        )
        for variant, row in zip(variants, accuracies.tolist(), strict=True)
        for seed, accuracy in enumerate(row)
    )


def power_of_truth(mean: float, deviation: float, seeds: int, num_experiments: int, seed: int) -> Power:
    """Take the further seeds from the true mean and spread, and see how often so many show equivalence."""
    more = further_pairs(Sample(seeds, mean, deviation, deviation / math.sqrt(seeds)), MARGIN)
    if more is None:
        raise ValueError(f"no number of seeds would do for {mean} and {deviation}")
    table = np.random.default_rng([seed, 2]).normal(mean, deviation, (num_experiments, seeds + more))
    return Power(mean, deviation, seeds, more, np.mean([shows(row) for row in table]).item(), observed=False)


def power_of_seen(mean: float, deviation: float, seeds: int, num_experiments: int, seed: int) -> Power:
    """Take them from the first seeds of each experiment that does not show it yet, as a person would, and go on."""
    rng = np.random.default_rng([seed, 3])
    promised, shown = [], []
    for _ in range(num_experiments):
        first = rng.normal(mean, deviation, seeds)
        sample = summarise(first)
        more = None if sample is None or shows(first) else further_pairs(sample, MARGIN)
        if more is not None:
            promised.append(more)
            shown.append(shows(np.concatenate([first, rng.normal(mean, deviation, more)])))
    return Power(mean, deviation, seeds, float(np.median(promised)), float(np.mean(shown)), observed=True)


def shows(differences: npt.NDArray[np.float64]) -> bool:
    found = equivalence(differences.tolist(), MARGIN)
    return found is not None and found.shown


def report(found: Sequence[Found], powers: Sequence[Power], where: dict[str, Any]) -> str:
    rows = [
        (
            f"{one.setting.mean:g}",
            f"{one.setting.deviation:g}",
            "continuous" if one.setting.num_images == FINE else f"{one.setting.num_images} images",
            str(one.setting.num_variants),
            f"{'at most ' if one.setting.until == 'decided' else ''}{one.setting.seeds}",
            str(num_looks(one.setting.config)),
            f"{100 * one.covered:.2f}",
            f"{100 * one.wrong:.2f}",
            f"{100 * one.clear:.1f}",
            f"{one.mean_seeds:.2f}",
        )
        for one in found
    ]
    columns = (
        "true difference, points", "spread, points", "accuracies", "variants", "seeds", "looks",
        "all intervals hold the truth, %", "a verdict is wrong, %", "all verdicts are clear, %", "seeds run, mean",
    )  # fmt: skip
    power_rows = [
        (
            f"{one.mean:g}",
            f"{one.deviation:g}",
            str(one.seeds),
            f"{one.num_more:g}",
            "the first seeds" if one.observed else "the truth",
            f"{100 * one.shown:.1f}",
        )
        for one in powers
    ]
    power_columns = ("true difference, points", "spread, points", "first seeds", "further seeds", "from", "shown, %")
    within = all(0.93 <= one.covered <= 0.97 for one in found if one.setting in PLAIN)
    kept = sum(one.promises_kept for one in found)
    ends = (
        f"- {'met' if within else 'MISSED'}: without a true difference, of one variant and without early looks, 93 to "
        "97 % of the intervals cover it.\n"
        f"- {'met' if kept == len(found) else 'MISSED'}: in {kept} of {len(found)} rows at least 95 % hold the truth "
        "and at most 5 % of the verdicts are wrong, up to three standard errors."
    )
    number = found[0].num_experiments
    parts = [
        "# coverage",
        CLAIM,
        f"`{harness.command_line('benchmarks.coverage')}`",
        harness.describe(where),
        (
            f"{number:,} experiments in each row; the standard error of a share of 5 % is "
            f"{100 * standard_error(0.05, number):.2f} points. Margin {MARGIN:g} points, confidence 95 %. A verdict is "
            "wrong if it is `better` or `worse` where the true difference is zero, or `equivalent` where it is the "
            "margin; of several variants, if one of them is. With early looks, an experiment stops when it is decided."
        ),
        harness.markdown_table(columns, rows),
        ends,
        (
            "## Further seeds\n\nHow many more would show equivalence with a power of 80 %: from the true mean and "
            "spread, and as a person has them, from the first seeds of an experiment that does not show it yet (the "
            "median is given). From few seeds it is a rough guess."
        ),
        harness.markdown_table(power_columns, power_rows),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
