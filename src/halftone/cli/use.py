"""evaluate, predict."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halftone.base.errors import HalftoneError, printable

Run = Annotated[Path, Parameter(help="The folder of a run, or one of its weight files.")]
Json = Annotated[bool, Parameter(help="Print JSON on standard output.", negative=())]
Model = Annotated[str | None, Parameter(help="Your own class, FILE.py:Class, if it moved or the file alone names it.")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, mps, xpu, ...; auto takes what the run used.")]


def evaluate(
    run: Run,
    data: Annotated[str | None, Parameter(help="Other data; without it, the run's own validation images.")] = None,
    /,
    *,
    weights: Annotated[str | None, Parameter(help="best, last, or a file. [best]")] = None,
    model: Model = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Evaluate a trained model; on the run's own images the result is that of training, bit for bit."""
    from halftone.run.inference import evaluate_run

    evaluation, _ = evaluate_run(run, data, weights=weights, device=device, model=model)
    metrics = evaluation.metrics
    for fault in evaluation.faults:
        print(f"note: left out, cannot be read: {printable(f'{fault.name}: {fault.reason}')}", file=sys.stderr)
    if json:
        print(json_module.dumps(metrics.model_dump(mode="json")))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("class", "images", "predicted", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in metrics.classes:
        shares = (_share(value) for value in (row.precision, row.recall, row.f1))
        table.add_row(row.name, str(row.support), str(row.predicted), *shares)
    console.print(table)
    console.print(
        f"{metrics.num_images:,} images: accuracy {_share(metrics.accuracy)}, top-5 {_share(metrics.top5)}, "
        f"precision {_share(metrics.precision)}, recall {_share(metrics.recall)}, F1 {_share(metrics.f1)}, "
        f"loss {'-' if metrics.loss is None else f'{metrics.loss:.4f}'}, "
        f"calibration error {_share(metrics.calibration_error)}"
    )
    return 0


def predict(
    run: Run,
    images: Annotated[list[str], Parameter(help="Image files.")],
    /,
    *,
    top: Annotated[int, Parameter(help="Classes to list for each image.")] = 5,
    model: Model = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Say what is on pictures. With --json, one JSON object per line."""
    from halftone.run.inference import Classifier

    classifier = Classifier.load(run, device=device, model=model)
    worst = 0
    for image in images:
        try:
            prediction = next(classifier.predict([image], top=top))
        except HalftoneError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            worst = max(worst, error.exit_code)
            continue
        if json:
            print(json_module.dumps(prediction.model_dump(mode="json")))
        else:
            others = ", ".join(f"{item.name} {item.probability:.1%}" for item in prediction.top[1:3])
            print(
                f"{printable(image)}: {prediction.label} {prediction.probability:.1%}{f' ({others})' if others else ''}"
            )
    return worst


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
