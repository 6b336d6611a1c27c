"""Comparing runs that were trained already."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from halftone.base.errors import RecipeError
from halftone.comparison.records import CompareConfig, Comparison, Outcome, Variant
from halftone.comparison.trainers.outcome import read_outcome, read_predictions
from halftone.comparison.verdicts.notes import notes_of, surroundings
from halftone.comparison.verdicts.pairing import target_of
from halftone.comparison.verdicts.verdict import judge
from halftone.run.folder import RunFolder


def parse_groups(texts: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """Read `NAME=RUN,RUN,...`, once for each variant.

    Raises:
        RecipeError: it is written otherwise, a name comes twice, or there is only one.
    """
    groups: dict[str, tuple[Path, ...]] = {}
    for text in texts:
        name, _, paths = text.partition("=")
        if not paths or not name or name in groups:
            raise RecipeError(
                f"--runs {text}: it must be NAME=RUN,RUN,... with a name of its own",
                hint="for example --runs old=runs/a-1,runs/a-2 --runs new=runs/b-1,runs/b-2",
            )
        groups[name] = tuple(Path(path.strip()).expanduser() for path in paths.split(","))
    if len(groups) < 2:
        raise RecipeError("--runs names one variant", hint="name another one to compare it with: --runs NAME=RUN,...")
    return groups


def compare_folders(groups: Mapping[str, Sequence[Path]], config: CompareConfig, *, command: str) -> Comparison:
    """Compare runs that were trained already, for example by two versions of the code.

    Args:
        groups: the folders of the runs of each variant; the first one is the baseline. Runs of one seed form a pair.
        config: how to judge.
        command: as it was typed.

    Raises:
        RecipeError: a variant has two runs of one seed, or none has a partner.
        ModelFileError: a folder is not that of a run.
    """
    variants = tuple(Variant(name=name, changes={}) for name in groups)
    outcomes = [outcome for name, paths in groups.items() for outcome in _read_group(name, paths)]
    _check_partners(groups, outcomes)
    target = target_of(config, outcomes)
    places = {(outcome.variant, outcome.seed): Path(outcome.folder) for outcome in outcomes}
    verdicts = judge(
        variants,
        outcomes,
        config,
        target=target,
        predictions=lambda variant, seed: read_predictions(places[variant, seed]),
    )
    return Comparison(
        name=" and ".join(groups),
        command=command,
        config=config,
        variants=variants,
        outcomes=tuple(outcomes),
        verdicts=verdicts,
        target=target,
        notes=tuple(notes_of(outcomes, no_joules=[], devices=[""], num_continued=0, num_planned=len(outcomes))),
        environment=surroundings(places.values()),
    )


def _read_group(name: str, paths: Sequence[Path]) -> Iterator[Outcome]:
    seen: dict[int, Path] = {}
    for path in paths:
        seed = RunFolder(path).read_plan().settled.seed
        if seed in seen:
            raise RecipeError(f"{name}: {path} and {seen[seed]} both have the seed {seed}", hint="name one of them")
        seen[seed] = path
        yield read_outcome(path, variant=name, seed=seed, folder=str(path.absolute()))


def _check_partners(groups: Iterable[str], outcomes: Sequence[Outcome]) -> None:
    baseline, *others = groups
    seeds = {name: {one.seed for one in outcomes if one.variant == name} for name in groups}
    for name in others:
        if not seeds[name] & seeds[baseline]:
            raise RecipeError(
                f"{name} and {baseline} have no seed in common: {sorted(seeds[name])} and {sorted(seeds[baseline])}",
                hint="runs of one seed form a pair; train both with the same --seed",
            )
