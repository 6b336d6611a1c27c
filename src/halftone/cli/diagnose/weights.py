"""diagnose weights."""

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import printable
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather

if TYPE_CHECKING:
    from halftone.diagnose.weights import DiagnosedWeights, WeightsDiagnosis
    from halftone.diagnose.weights_verdict import LayerHealth

_FIGURE, _NUMBERS = "weights_health.png", "weights_health.json"


@with_recipe
def weights(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    compare: Annotated[
        str, Parameter(help="Further schemes of --init to compare with, with commas between them: he,xavier,lsuv.")
    ] = "",
    out: Annotated[Path, Parameter(help="Where the picture and the numbers go.")] = Path("diagnosis"),
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Say before training whether activations and gradients survive the way through the network.

    A batch of training images passes through it and back once for each way to begin; nothing is trained.
    """
    wish = gather(data, recipe, settings)
    from halftone.base.files import make_folder, write_bytes, write_text
    from halftone.diagnose.weights import diagnose_weights
    from halftone.diagnose.weights_figure import weights_figure
    from halftone.report.figures import to_png

    diagnosed = diagnose_weights(wish, [name.strip() for name in compare.split(",") if name.strip()])
    numbers = json_module.dumps([found.model_dump(mode="json") for found in diagnosed.found], indent=1)
    make_folder(out)
    write_text(out / _NUMBERS, numbers)
    write_bytes(out / _FIGURE, to_png(weights_figure(diagnosed)))
    if json:
        print(numbers)
    else:
        _show(diagnosed)
    print(f"picture: {out / _FIGURE}", file=sys.stderr)
    return 0


def _show(diagnosed: "DiagnosedWeights") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for found in diagnosed.found:
        console.print(_table(found))
        print()
    images = diagnosed.found[0].batch_size
    print(f"{diagnosed.plan.settled.model.name}, {images} training images, forward and back, before training")
    for found in diagnosed.found:
        print(printable(f"{found.label}: {found.verdict.text}"))
    print(printable(_advice(diagnosed)))


def _table(found: "WeightsDiagnosis") -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=f"init {found.label}", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("then")
    for title in ("mean", "std", "after", "dead", "sat.", "grad", "w grad"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in found.layers:
        table.add_row(
            Text(printable(layer.name)),
            Text(layer.activation or "-"),
            *(_number(value, layer) for value in (layer.mean, layer.std, layer.activation_std)),
            *(f"{share:.0%}" if share else "-" for share in (layer.dead, layer.saturated)),
            *(_number(value, layer) for value in (layer.gradient, layer.weight_gradient)),
        )
    return table


def _number(value: float | None, layer: "LayerHealth") -> str:
    if value is None:
        return "-" if layer.finite else "not finite"
    return f"{value:.1e}"


def _advice(diagnosed: "DiagnosedWeights") -> str:
    if diagnosed.found[0].verdict.outcome == "healthy":
        return "advice: nothing to do"
    if diagnosed.remedy is None:
        return (
            "advice: no other scheme that was tried helps; put a normalisation behind each layer or shortcuts around "
            "them, or take fewer layers"
        )
    init = diagnosed.remedy.init
    gain = "" if init.gain is None else f" --init.gain {init.gain}"
    without = " without --init.layers" if diagnosed.found[0].init.layers and not init.layers else ""
    return f"advice: --init {init.scheme}{gain}{without}; with it, {diagnosed.remedy.verdict.text}"
