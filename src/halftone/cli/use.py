"""evaluate, predict."""

import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import HalftoneError, RecipeError, printable
from halftone.cli.shown import percent

Json = Annotated[bool, Parameter(help="Print JSON on standard output.", negative=())]
Precision = Annotated[
    str, Parameter(help="fp32, bf16, fp16, ...: compute in another mode; auto: as in the evaluations of training.")
]
Model = Annotated[str | None, Parameter(help="Your own class, FILE.py:Class, if it moved or the file alone names it.")]


def evaluate(
    run: Annotated[Path, Parameter(help="The folder of a run, or a weight file of any origin.")],
    data: Annotated[str | None, Parameter(help="Other data; without it, the run's own validation images.")] = None,
    /,
    *,
    weights: Annotated[str | None, Parameter(help="best, last, or a file. [best]")] = None,
    root: Annotated[Path | None, Parameter(name="--data.root", help="As for train.")] = None,
    download: Annotated[bool, Parameter(name="--data.download", help="As for train.", negative=())] = False,
    size: Annotated[str | None, Parameter(help="Of a file of other origin: the input in pixels.")] = None,
    channels: Annotated[
        str | None, Parameter(name="--data.channels", help="Of a file of other origin: 1 for gray, 3 for colour.")
    ] = None,
    mean: Annotated[
        str | None, Parameter(name="--data.mean", help="Of a file of other origin: as for train, 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, Parameter(name="--data.std", help="Of a file of other origin: as for train.")] = None,
    model: Annotated[
        str | None,
        Parameter(help="Of a file of other origin: its network, by name or FILE.py:Class; or your class, if it moved."),
    ] = None,
    views: Annotated[
        int | None, Parameter(help="How often to look at an image: 1, 2 or 6; without it, as in training.")
    ] = None,
    device: Annotated[
        str, Parameter(help="cpu, cuda, cuda:1, mps, xpu, ...; auto: the CPU if the run used it.")
    ] = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> int:
    """Evaluate a trained model; on the run's own images the result is that of training, bit for bit.

    With --precision, the same weights compute in another mode.
    """
    from halftone.run.inference import evaluate_run

    pictures = {"size": size, "channels": channels, "mean": mean, "std": std}
    asked: dict[str, Any] = {name: value for name, value in pictures.items() if value is not None}
    computing: dict[str, Any] = {"model": model, "device": device, "precision": precision}
    if run.expanduser().is_file():
        if weights is not None:
            raise RecipeError(f"weights = {weights}: {run} is a weight file itself", hint="leave --weights out")
        asked |= {} if views is None else {"views": views}
        found = _evaluate_file(run, data, {**asked, "root": root, "download": download}, **computing)
    elif asked:
        raise RecipeError(
            f"data.{next(iter(asked))} is settled: a run's pictures are what they were in training",
            hint="it is for weight files of other origin",
        )
    else:
        from halftone.data.config import DataConfig

        looks = None if views is None else DataConfig.parse({"views": views}).views
        found = evaluate_run(run, data, weights=weights, root=root, download=download, views=looks, **computing)
    _tell(found)
    if json:
        print(json_module.dumps({"part": found.part, **found.metrics.model_dump(mode="json")}))
        return 0
    _say(f"on the {found.part} part, {len(found.images.labels):,} images")
    _show(found.metrics)
    return 0


def _tell(found: Any) -> None:
    """Say what became of an evaluation's weights, images and memory."""
    for note in found.notes:
        _say(note)
    for fault in found.evaluation.faults:
        _say(f"note: left out, cannot be read: {fault.name}: {fault.reason}")
    if found.evaluation.shortage:
        at_once = f"at most {found.evaluation.at_once} images passed through the network at once"
        _say(f"note: memory ran out ({found.evaluation.shortage}): {at_once}")


def _evaluate_file(file: Path, data: str | None, pictures: dict[str, Any], **computing: Any) -> Any:
    from halftone.data.config import DataConfig
    from halftone.run.file_evaluation import evaluate_file

    if data is None:
        raise RecipeError(
            f"{file} is a weight file, and does not say which images it is to be evaluated on",
            hint="halftone evaluate FILE DATA, or name the folder of a run",
        )
    config = DataConfig.parse({"source": data, **pictures})
    return evaluate_file(file.expanduser(), config, **computing)


def _show(metrics: Any) -> None:
    """Print the metrics of each class, and of all of them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("class", "images", "predicted", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in metrics.classes:
        shares = (percent(value) for value in (row.precision, row.recall, row.f1))
        table.add_row(Text(printable(row.name)), str(row.support), str(row.predicted), *shares)
    console.print(table)
    looks = f", {metrics.views} views of each" if metrics.views > 1 else ""
    console.print(
        f"{metrics.num_images:,} images{looks}: accuracy {percent(metrics.accuracy)}, top-5 {percent(metrics.top5)}, "
        f"precision {percent(metrics.precision)}, recall {percent(metrics.recall)}, F1 {percent(metrics.f1)}, "
        f"loss {'-' if metrics.loss is None else f'{metrics.loss:.4f}'}, "
        f"calibration error {percent(metrics.calibration_error)}"
    )


def predict(
    run: Annotated[Path, Parameter(help="The folder of a run, or one of its weight files.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, or folders of them.")],
    top: Annotated[int, Parameter(help="Classes to list for each image.")] = 5,
    model: Model = None,
    device: Annotated[str, Parameter(help="cpu, cuda, cuda:1, mps, xpu, ...; auto: the best there is.")] = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> int:
    """Say what is on pictures. With --json, one JSON object per line."""
    import torch

    from halftone.run.inference import Classifier
    from halftone.system.threads import usable_cores

    if not images:
        raise RecipeError("no image was named", hint="halftone predict RUN IMAGE...")
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    classifier = Classifier.load(run, device=device, model=model, precision=precision)
    for note in classifier.notes:
        _say(note)
    worst = 0
    for image in _files(images):
        try:
            prediction = next(classifier.predict([image], top=top))
        except RecipeError:  # the same for every image
            raise
        except HalftoneError as error:
            _say(f"error: {error}")
            worst = max(worst, error.exit_code)
            continue
        if json:
            print(json_module.dumps(prediction.model_dump(mode="json")))
        else:
            others = ", ".join(f"{item.name} {item.probability:.1%}" for item in prediction.top[1:3])
            text = f"{image}: {prediction.label} {prediction.probability:.1%}{f' ({others})' if others else ''}"
            print(printable(text))
    return worst


def _files(names: tuple[str, ...]) -> Iterator[str]:
    """Yield the image files that names mean: a file is itself, a folder all images below it."""
    from halftone.data.sources.files import EXTENSIONS, walk

    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            yield name
            continue
        files = list(walk(folder))
        inside = [path for path in files if Path(path).suffix.lower() in EXTENSIONS]
        if not inside:
            _say(f"note: the folder {name} holds no images")
        elif len(inside) < len(files):
            _say(f"note: left out {len(files) - len(inside)} files in {name} that have no name of an image")
        yield from (str(folder / path) for path in sorted(inside))


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)
