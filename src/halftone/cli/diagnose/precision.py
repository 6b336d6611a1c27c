"""diagnose precision."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError, listed, printable
from halftone.cli.flags import with_recipe
from halftone.cli.shown import share
from halftone.cli.train import Data, Json, RecipeFile, gather
from halftone.precision.config import Emulated

if TYPE_CHECKING:
    from halftone.diagnose.precision import Watched
    from halftone.precision.types_seen import LayerTypes
    from halftone.run.recipe import Recipe

_AGREES = 0.9
"""A gradient whose cosine with that in fp32 is less points elsewhere; it may train all the same."""
_FIGURE, _NUMBERS = "precision_health.png", "precision_health.json"


@with_recipe
def precision(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    as_: Annotated[
        Emulated, Parameter(name="--as", help="The format to judge by; no hardware for it is needed.")
    ] = "fp16",
    steps: Annotated[int, Parameter(help="Training steps in fp32 to watch.")] = 10,
    dtypes: Annotated[
        bool, Parameter(help="Show the types that each layer computes in, under the recipe's precision.", negative=())
    ] = False,
    fix: Annotated[
        Path | None, Parameter(help="Write the recipe with the proposed precision to this YAML file.")
    ] = None,
    out: Annotated[Path, Parameter(help="Where the picture and the numbers go.")] = Path("diagnosis"),
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Say what each layer would lose in a number format, and what keeps it from losing it.

    A few steps are trained in fp32 on your own network and images, and every layer is watched, forward and backward.
    """
    wish = gather(data, recipe, settings)
    if dtypes:
        return _types(wish, json=json)
    if steps < 1:
        raise RecipeError(f"steps = {steps}: it must be at least 1")
    from halftone.base.files import make_folder, write_bytes, write_text
    from halftone.diagnose.figure import health_figure
    from halftone.diagnose.precision import diagnose_precision
    from halftone.report.figures import to_png

    found = diagnose_precision(wish, as_, num_steps=steps)
    make_folder(out)
    write_text(out / _NUMBERS, found.diagnosis.model_dump_json(indent=1))
    write_bytes(out / _FIGURE, to_png(health_figure(found)))
    if json:
        print(found.diagnosis.model_dump_json())
    else:
        _show(found)
    if fix is not None:
        _write_fix(found, fix)
    print(f"picture: {out / _FIGURE}", file=sys.stderr)
    return 0


def _types(wish: "Recipe", *, json: bool) -> int:
    from halftone.diagnose.precision import types_of_step

    plan, rows = types_of_step(wish)
    if json:
        print(json_module.dumps([row.model_dump() for row in rows]))
        return 0
    print(f"{plan.settled.model.name}, one step in {plan.settled.precision.mode} on {plan.device}")
    _type_table(rows)
    return 0


def _type_table(rows: "list[LayerTypes]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    columns = ("name", "kind", "weights", "master", "compute", "output", "gradient", "weight_gradient", "state")
    titles = ("layer", "kind", "weights", "master", "compute", "output", "grad", "w grad", "optim")
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title not in ("layer", "kind"))
    for row in rows:
        table.add_row(*(Text(printable(getattr(row, column)) or "-") for column in columns))
    Console(highlight=False).print(table)


def _show(found: "Watched") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    diagnosis, health = found.diagnosis, found.diagnosis.health
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    scaled = "" if health.loss_scale == 1 else " scaled"
    for title in ("out: over", "headroom", "grad: zero", "lost", f"lost{scaled}", "subnormal"):
        table.add_column(title, justify="right")
    table.add_column("")
    for layer in health.layers:
        headroom = layer.output.headroom_bits
        table.add_row(
            Text(printable(layer.name)),
            share(layer.output.overflow),
            "-" if headroom is None else f"{headroom:.0f} bits",
            share(layer.gradient.zeros),
            share(layer.lost),
            share(layer.lost_scaled),
            share(layer.scaled_gradient.subnormal),
            Text("keep in fp32: " + layer.keep if layer.keep else ""),
        )
    console.print(table)
    print(
        f"{found.plan.settled.model.name} in {health.format}, {diagnosis.num_steps} steps of {diagnosis.batch_size} "
        "images watched in fp32"
    )
    for when, step in (("as it is", diagnosis.before), ("with the proposal", diagnosis.after)):
        agrees = "not finite" if step.cosine is None else f"cosine {step.cosine:.4f}, error {step.relative_error:.2%}"
        print(
            f"one rehearsed step {when} (loss scale {step.loss_scale:g}, {len(step.layers_in_fp32)} layers in fp32): "
            f"gradient against fp32: {agrees}; {step.underflow:.2%} of it lost"
        )
    if diagnosis.lost_updates is not None:
        print(f"without fp32 master weights, {diagnosis.lost_updates:.1%} of a step's updates would be lost")
    print(_advice(found))


def _advice(found: "Watched") -> str:
    health = found.diagnosis.health
    parts = []
    if health.loss_scale != 1:
        parts.append(f"start from a loss scale of {health.loss_scale:g} (--precision.scale {health.loss_scale:g})")
    if health.keep:
        layers = ",".join(f"{name}=fp32" for name in health.keep)
        shown = f" (--precision.layers {layers})" if len(health.keep) <= 6 else ""
        parts.append(f"keep {len(health.keep)} layers in fp32: {listed(health.keep, most=6)}{shown}")
    cosine = found.diagnosis.after.cosine
    if cosine is None or cosine < _AGREES:
        shown = "is not finite" if cosine is None else f"agrees poorly with that in fp32 (cosine {cosine:.2f})"
        parts.append(
            f"the gradient in {health.format} {shown}: train with --precision.emulate {health.format} and compare "
            "the accuracy before you rely on it"
        )
    return "advice: " + ("; ".join(parts) if parts else f"nothing to do, the network fits into {health.format}")


def _write_fix(found: "Watched", path: Path) -> None:
    from halftone.base.files import write_text
    from halftone.base.records import to_yaml

    write_text(path, to_yaml(found.fixed()))
    print(f"recipe: {path}; train with: halftone train --recipe {path}", file=sys.stderr)
