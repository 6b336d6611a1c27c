"""weights average."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from halftone.base.errors import printable
from halftone.cli.shown import percent
from halftone.cli.use import Json
from halftone.cli.weights.shared import print_json, print_table, refuse_overwriting, table

if TYPE_CHECKING:
    from halftone.run.averaging import Averaged, Ingredient


def average(
    *files: Annotated[Path, Parameter(help="Weight files or checkpoints of one network, or runs.")],
    out: Annotated[Path, Parameter(help="Where the result goes.")],
    method: Annotated[
        Literal["uniform", "ema", "greedy"],
        Parameter(help="The mean; a moving average in the order given; or a greedy soup by validation accuracy."),
    ] = "uniform",
    decay: Annotated[float, Parameter(help="Of ema: how much of the average stays at each file.")] = 0.9,
    last: Annotated[int | None, Parameter(help="Of a run: this many of its newest checkpoints.")] = None,
    run: Annotated[
        Path | None, Parameter(help="The run whose network and images count, if the files lie outside of it.")
    ] = None,
    data: Annotated[str | None, Parameter(help="Other images than the run's validation images to judge by.")] = None,
    root: Annotated[Path | None, Parameter(name="--data.root", help="As for train.")] = None,
    holdout: Annotated[
        float, Parameter(help="Keep this share of the images from the choice and judge by them, too.")
    ] = 0.0,
    split_seed: Annotated[int, Parameter(help="Another number keeps other images.")] = 0,
    statistics: Annotated[
        Literal["recompute", "average"],
        Parameter(help="Of batch normalisation: measure them anew on training images, or average them."),
    ] = "recompute",
    model: Annotated[str | None, Parameter(help="Your own class, FILE.py:Class, if it moved.")] = None,
    device: Annotated[str, Parameter(help="cpu, cuda, mps, ...; auto: the CPU if the run used it.")] = "auto",
    force: Annotated[bool, Parameter(help="Overwrite a file that is there.", negative=())] = False,
    json: Json = False,
) -> int:
    """Make one weight file from several: what evaluate and predict accept, if the files are those of a run."""
    refuse_overwriting(out, force=force)
    from halftone.run.averaging import average_files

    found = average_files(
        files,
        out,
        method=method,
        decay=decay,
        last=last,
        run=run,
        data=data,
        root=root,
        holdout=holdout,
        split_seed=split_seed,
        statistics=statistics,
        device=device,
        model=model,
    )
    if json:
        print_json({"out": str(out), **found.model_dump(mode="json")})
        return 0
    _show_account(found)
    print(printable(f"saved: {out}{'' if found.has_card else ', without a card: no file says what its network is'}"))
    return 0


def _show_account(found: "Averaged") -> None:
    """Print what became of each file, and how good the average is."""
    judged, kept = found.accuracy is not None, found.held_out is not None
    greedy = found.method == "greedy"
    titles = ["file", *(["accuracy"] if judged else []), *(["held out"] if kept else [])]
    rows = table(*titles, *(["with it", ""] if greedy else []))
    for one in found.ingredients:
        cells = [printable(one.file), *([percent(one.accuracy)] if judged else [])]
        cells += [percent(one.held_out)] if kept else []
        rows.add_row(*cells, *([percent(one.with_it), "added" if one.added else "left out"] if greedy else []))
    print_table(rows)
    print(f"statistics of batch normalisation: {found.statistics}")
    best = found.best_single
    if best is not None:
        _show_result(found, best)


def _show_result(found: "Averaged", best: "Ingredient") -> None:
    used = sum(one.added for one in found.ingredients)
    print(
        f"average of {used}: accuracy {percent(found.accuracy)} on the {found.num_images:,} images that "
        f"{'it was chosen on' if found.method == 'greedy' else 'it is judged by'}; the best single file "
        f"{percent(best.accuracy)}"
    )
    if found.held_out is not None:
        print(
            f"held out: accuracy {percent(found.held_out)} on {found.num_held_out:,} images that were not chosen on; "
            f"the best single file by the others {percent(best.held_out)}"
        )
    elif found.method == "greedy":
        print("chosen and judged on the same images, which flatters it: --holdout 0.5 keeps half of them for judging")
