"""compare."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather, stopping
from halftone.run.config import RunConfig

if TYPE_CHECKING:
    from halftone.comparison.experiment import Experiment
    from halftone.comparison.records import Comparison

_JUDGING = ("seeds", "measure", "margin", "confidence", "target", "until")
"""Settings that may still change when a comparison goes on."""


Vary = Annotated[
    tuple[str, ...],
    Parameter(
        help="SETTING=VALUE,VALUE,...: any flag of train, once for each setting; the first values are the baseline. "
        "recipe=A.yaml,B.yaml compares recipe files.",
        negative=(),
        show_default=False,
    ),
]
Seeds = Annotated[str | None, Parameter(help="Runs of each variant. [5]")]
Pairs = Annotated[bool, Parameter(help="Change one setting at a time, not all combinations.", negative=())]
Measured = Annotated[
    str | None,
    Parameter(help="What is judged: accuracy, loss, precision, recall, f1, calibration_error. [accuracy]"),
]
Margin = Annotated[
    str | None, Parameter(help="Differences within it count as none: points, or hundredths of a nat. [0.5]")
]
Confidence = Annotated[str | None, Parameter(help="Of the intervals. [0.95]")]
Target = Annotated[str | None, Parameter(help="The accuracy to which time is taken. [what every run reaches]")]
Until = Annotated[str | None, Parameter(help="decided: stop when all verdicts are clear, for wider intervals. [all]")]
Devices = Annotated[
    str | None,
    Parameter(
        help="Train on several at once: cuda:0,cuda:1. [one at a time; small networks: one on each core of the CPU]"
    ),
]
Resume = Annotated[Path | None, Parameter(help="Go on with the comparison in this folder.")]
Runs = Annotated[
    tuple[str, ...],
    Parameter(
        help="NAME=RUN,RUN,...: train nothing, compare these run folders; once per variant.",
        negative=(),
        show_default=False,
    ),
]


@with_recipe
def compare(
    data: Data = None,
    *,
    vary: Vary = (),
    seeds: Seeds = None,
    pairs: Pairs = False,
    measure: Measured = None,
    margin: Margin = None,
    confidence: Confidence = None,
    target: Target = None,
    until: Until = None,
    devices: Devices = None,
    resume: Resume = None,
    runs: Runs = (),
    recipe: RecipeFile = None,
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Train variants in pairs of runs and say what the difference is worth.

    Runs of one seed share images, order, augmentation and starting weights, as far as what varies allows it. Verdicts
    go to standard output; a page, tables and figures go into a folder.
    """
    given = dict(zip(_JUDGING, (seeds, measure, margin, confidence, target, until), strict=True))
    judging = {name: value for name, value in given.items() if value is not None}
    if runs:
        _refuse_with("--runs", DATA=data, vary=vary, resume=resume, recipe=recipe, devices=devices)
        return _of_folders(runs, judging, settings, json=json)
    if resume is not None:
        others = {name: value for name, value in settings.items() if value}
        _refuse_with("--resume", DATA=data, vary=vary, recipe=recipe, devices=devices, **others)
        return _go_on(resume, judging, json=json)
    where, base = _base(data, recipe, settings)
    from halftone.comparison.devices import with_devices
    from halftone.comparison.experiment import Experiment
    from halftone.comparison.records import CompareConfig
    from halftone.comparison.vary import parse_varied, variants_of
    from halftone.run.folder import create_named, plain_name

    experiment = Experiment(
        config=CompareConfig.parse({**judging, "pairs": pairs}),
        variants=variants_of(parse_varied(vary), pairs=pairs),
        base=base,
        devices=tuple(devices.split(",")) if devices else (),
        command=_typed(),
    )
    stem = f"compare-{plain_name(experiment.check())}"
    experiment = with_devices(experiment)
    folder = create_named(where.root.expanduser(), where.name, stem=stem)
    return _run(experiment, folder, json=json)


def _base(data: str | None, file: Path | None, settings: dict[str, Any]) -> tuple[RunConfig, dict[str, Any]]:
    """Return where the comparison goes, and what all runs have in common."""
    wish = gather(data, file, settings, needs_data=False)
    base = wish.model_dump(mode="json", exclude_unset=True)
    run = {name: value for name, value in base.pop("run", {}).items() if name not in ("name", "root")}
    return wish.run, {**base, "run": run} if run else base


def _refuse_with(flag: str, **others: Any) -> None:
    extra = [name if name == "DATA" else f"--{name}" for name, value in others.items() if value]
    if extra:
        raise RecipeError(
            f"{flag} takes no {', '.join(extra)}", hint="leave that out, or start a new comparison without it"
        )


def _typed() -> str:
    return f"halftone {shlex.join(sys.argv[1:])}"


def _go_on(folder: Path, judging: Mapping[str, str], *, json: bool) -> int:
    from halftone.comparison.experiment import Experiment
    from halftone.comparison.records import CompareConfig

    folder = folder.expanduser().resolve()
    before = Experiment.load(folder)
    config = CompareConfig.parse({**before.config.model_dump(), **judging})
    return _run(before.replaced(config=config), folder, json=json)


def _run(experiment: "Experiment", folder: Path, *, json: bool) -> int:
    from halftone.cli.compare_table import watched
    from halftone.comparison.experiment import Compared, comparing

    with stopping() as stop:
        for event in watched(comparing(experiment, folder, stop=stop)):
            if isinstance(event, Compared):
                return _finish(event.comparison, folder, json=json)
    raise AssertionError("a comparison ends with its result or an error")


def _of_folders(runs: tuple[str, ...], judging: Mapping[str, str], settings: dict[str, Any], *, json: bool) -> int:
    from halftone.comparison.existing import compare_folders, parse_groups
    from halftone.comparison.records import CompareConfig
    from halftone.run.folder import create_named
    from halftone.run.recipe import Recipe

    where = Recipe.parse({"run": settings.pop("run", {})}).run
    if settings:
        raise RecipeError(f"--runs takes no --{next(iter(settings))}", hint="these runs were trained already")
    comparison = compare_folders(parse_groups(runs), CompareConfig.parse(dict(judging)), command=_typed())
    folder = create_named(where.root.expanduser(), where.name, stem="compare-runs")
    return _finish(comparison.replaced(name=folder.name), folder, json=json)


def _finish(comparison: "Comparison", folder: Path, *, json: bool) -> int:
    from halftone.comparison.results import write_results

    page = write_results(comparison, folder)
    if json:
        print(comparison.model_dump_json(exclude={"outcomes"}))
    else:
        for verdict in comparison.verdicts:
            print(verdict.sentence)
    print(f"report: {page}", file=sys.stderr)
    return 0
