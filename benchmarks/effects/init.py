"""Whether a deep plain network learns is decided before training: He et al. 2015, section 2.2, on real images.

Each network is trained from several starting weights with everything else equal; beside the accuracy stands what
`halftone diagnose weights` said of it beforehand. And the limits of that verdict are tried: networks of growing depth,
and growing gains.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.runs import Job, Outcome, by_label, shown, train_all
from halftone.base.files import write_bytes, write_json, write_text
from halftone.diagnose.weights import diagnose_weights
from halftone.diagnose.weights_verdict import WeightsVerdict
from halftone.report.figures import BLUE, GREEN, ORANGE, finish, line, panels, to_png
from halftone.run.recipe import Recipe

EPOCHS = 10
_TASK: Mapping[str, Any] = {
    "optimizer": {"name": "adam", "lr": 5e-4},
    "batch_size": 64,
    "epochs": EPOCHS,
    "warmup": "none",
    "decay": "constant",
    "augment": "none",
    "precision": "fp32",
}
_SAID = f"Adam at 0.0005, batches of 64, {EPOCHS} epochs, neither warmup nor decay nor augmentation, fp32"
Inits = Mapping[str, Mapping[str, Any]]
"""Settings of `init` by what they are called."""
_RELU: Inits = {"he": {"scheme": "he"}, "xavier": {"scheme": "xavier"}, "lsuv": {"scheme": "lsuv"}}
_SIGMOID: Inits = {name: _RELU[name] for name in ("he", "xavier")} | {"xavier, gain 4": {"scheme": "xavier", "gain": 4}}
"""Four times the deviation: Glorot and Bengio 2010 suppose a slope of one at zero, that of the sigmoid is a quarter."""
NETWORKS: Mapping[str, Inits] = {
    "plain30": _RELU,
    "plain30_tanh": _RELU,
    "plain10_sigmoid": _SIGMOID,
}
LIMITS: Mapping[str, Inits] = {
    **{f"plain{depth}": {"xavier": {"scheme": "xavier"}} for depth in (8, 12, 18, 19, 20, 22)},
    "plain16": {f"xavier, gain {gain:g}": {"scheme": "xavier", "gain": gain} for gain in (1, 1.5, 2, 2.5, 3, 4)},
}
"""The factor grows with the depth, by the root of 2 per layer, and with the gain."""
_COLOURS = (BLUE, ORANGE, GREEN)


@dataclass(frozen=True, slots=True)
class Case:
    """One network from one start."""

    network: str
    init: str
    recipe: Mapping[str, Any]
    verdict: WeightsVerdict
    """Before training."""

    @property
    def label(self) -> str:
        """What its runs are called."""
        return f"{self.network} {self.init}"

    @property
    def factor(self) -> float:
        """How many times something falls or grows through the network, the worse of the two; infinite if unknown."""
        ratios = [ratio for ratio in (self.verdict.activations, self.verdict.gradients) if ratio]
        return max((max(ratio, 1 / ratio) for ratio in ratios), default=math.inf)


def run(*, data: str, seeds: int, limits: bool, dry: bool) -> None:
    """Train every case and write the results, for `digits` under their own name."""
    where = harness.machine()
    cases = [
        _case(network, init, {**_TASK, "data": data, "model": network, "init": settings})
        for network, inits in (LIMITS if limits else NETWORKS).items()
        for init, settings in inits.items()
    ]
    jobs = [Job(case.label, seed, case.recipe) for seed in range(seeds) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = train_all(jobs, Path(folder))
    found = by_label(outcomes)
    name = "init_limits" if limits else "init"
    name += "" if data == "digits" else f"_{Path(data).stem}"
    text = _report(name, cases, found, data, where, seeds, limits=limits)
    print(text)
    if not dry:
        write_text(harness.RESULTS / f"{name}.md", text)
        verdicts = {case.label: case.verdict.model_dump(mode="json") for case in cases}
        runs = [outcome.to_mapping() for outcome in outcomes]
        write_json(harness.RESULTS / f"{name}.json", {"machine": where, "verdicts": verdicts, "runs": runs})
        figure = _limits_figure(cases, found) if limits else _curves(cases, found)
        write_bytes(harness.RESULTS / f"{name}.png", to_png(figure))


def _case(network: str, init: str, recipe: Mapping[str, Any]) -> Case:
    return Case(network, init, recipe, diagnose_weights(Recipe.parse(recipe)).found[0].verdict)


def _report(
    name: str,
    cases: Sequence[Case],
    found: Mapping[str, Sequence[Outcome]],
    data: str,
    where: Mapping[str, Any],
    seeds: int,
    *,
    limits: bool,
) -> str:
    rows = []
    for case in cases:
        accuracy = shown([outcome.accuracy for outcome in found[case.label]])
        rows.append((case.network, case.init, case.verdict.text, f"{case.factor:.2g}", accuracy))
    titles = ("network", "init", "`halftone diagnose weights`, before training", "factor", "validation accuracy, %")
    parts = [
        f"# {name}",
        "The largest factor by which activations or gradients fall or grow, and what became of the network."
        if limits
        else "Deep plain networks learn or stall by their starting weights alone; it can be seen before training.",
        f"`{harness.command_line('benchmarks.effects')}`",
        harness.describe(where),
        (
            f"{Path(data).name}, {_SAID}; the last epoch of {seeds} seeds, mean and 95 % interval. A run that diverges "
            "counts as guessing."
        ),
        harness.markdown_table(titles, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _curves(cases: Sequence[Case], found: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Draw the training loss of every run, a panel for each network."""
    networks = list(dict.fromkeys(case.network for case in cases))
    figure, axes = panels(len(networks), size=(4.2 * len(networks), 3.4))
    for network, place in zip(networks, axes, strict=True):
        shown_here = [case for case in cases if case.network == network]
        for case, colour in zip(shown_here, _COLOURS, strict=True):
            for number, outcome in enumerate(found[case.label]):
                label = f"{case.init}: {case.verdict.outcome}" if number == 0 else "_"
                numbers: list[float | None] = [float(row["epoch"]) for row in outcome.epochs]
                line(place, numbers, [float(row["train_loss"]) for row in outcome.epochs], label, colour)
        place.set_ylim(bottom=0)
        finish(place, f"{network}: training loss", "epoch")
    return figure


def _limits_figure(cases: Sequence[Case], found: Mapping[str, Sequence[Outcome]]) -> Figure:
    """Draw the accuracy over the factor, a dot for each run."""
    figure, (axes,) = panels(1, size=(6.4, 3.6))
    colours = {"healthy": GREEN, "vanishes": BLUE, "explodes": ORANGE}
    for outcome, colour in colours.items():
        there = [case for case in cases if case.verdict.outcome == outcome]
        dots = [(case.factor, one.accuracy) for case in there for one in found[case.label]]
        axes.scatter([dot[0] for dot in dots], [dot[1] for dot in dots], s=22, color=colour, label=outcome)
    axes.set_xscale("log")
    finish(axes, "Validation accuracy, %", "factor by which activations or gradients fall or grow")
    return figure
