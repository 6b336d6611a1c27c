"""compare, as a verb for Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halftone.base.extras import require
from halftone.comparison.devices import with_devices
from halftone.comparison.experiment import Compared, Experiment, comparing
from halftone.comparison.records import CompareConfig, Comparison, Outcome, Verdict
from halftone.comparison.results import write_results
from halftone.comparison.tables import OF_RUNS, Value
from halftone.comparison.vary import check_varied, variants_of
from halftone.run.folder import create_named, plain_name
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest


@dataclass(frozen=True, slots=True)
class ComparisonRun:
    """A comparison on disk, and what it shows."""

    path: Path
    comparison: Comparison

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each variant but the baseline."""
        return self.comparison.verdicts

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One for each run."""
        return self.comparison.outcomes

    def rows(self) -> list[dict[str, Value]]:
        """Return a row for each run, with the columns of runs.csv and what varies."""
        changes = {variant.name: variant.changes for variant in self.comparison.variants}
        return [
            {**changes[run.variant], **{name: read(run) for name, read in OF_RUNS.items()}} for run in self.outcomes
        ]

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame.

        Raises:
            ResourceError: pandas is not installed.
        """
        return require("pandas", extra="hub").DataFrame(self.rows())


def compare(
    recipe: Recipe,
    *,
    vary: Mapping[str, Sequence[object]],
    seeds: int = 5,
    devices: Sequence[str] = (),
    stop: StopRequest | None = None,
    **judging: Any,
) -> ComparisonRun:
    """Train variants of a recipe in pairs of runs, judge them, and leave runs, tables, figures and a page in a folder.

    Each run has a process of its own, so data and network must be named in the recipe, not passed.

    Args:
        recipe: what all runs have in common; its seed is the first one, its run.root and run.name are the folder's.
        vary: settings and their values; the first values together are the baseline.
        seeds: runs of each variant.
        devices: where to train, one run at a time on each; left out, it is as for `halftone compare`.
        stop: ends the comparison when its signal is set.
        judging: the other settings of `CompareConfig`, such as `margin=1.0` or `until="decided"`.

    Raises:
        HalftoneError: see its kinds.
    """
    choices = {name: tuple(str(value) for value in values) for name, values in vary.items()}
    for name, values in choices.items():
        check_varied(name, values)
    config = CompareConfig.parse({"seeds": seeds, **judging})
    base = recipe.model_dump(mode="json", exclude_unset=True)
    base["run"] = {name: value for name, value in base.get("run", {}).items() if name not in ("root", "name")}
    experiment = Experiment(
        config=config, variants=variants_of(choices, pairs=config.pairs), base=base, devices=tuple(devices)
    )
    stem = f"compare-{plain_name(experiment.check())}"
    experiment = with_devices(experiment)
    folder = create_named(recipe.run.root.expanduser(), recipe.run.name, stem=stem)
    comparison = next(
        event.comparison for event in comparing(experiment, folder, stop=stop) if isinstance(event, Compared)
    )
    write_results(comparison, folder)
    return ComparisonRun(folder, comparison)
