"""One weight file from several of a network: averaged, its statistics measured anew, judged and saved with a card."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from halftone.base.errors import RecipeError
from halftone.base.records import Record
from halftone.run.checkpoint import checkpoints
from halftone.run.folder import RunFolder
from halftone.run.model_file import model_card, save_model
from halftone.run.soup_judge import Judge, refuse_other_card
from halftone.run.weight_files import open_weights, run_of
from halftone.system.memory import out_of_memory_named
from halftone.weights.files import save_plain
from halftone.weights.match import without_prefix
from halftone.weights.soup import Tried, Weights, exponential, greedy, uniform
from halftone.weights.statistics import tracked_norms

Method = Literal["uniform", "ema", "greedy"]
Statistics = Literal["recompute", "average"]


class Ingredient(Record):
    """What became of one file."""

    file: str
    accuracy: float | None = None
    """Of this file alone, on the images that were chosen on."""
    held_out: float | None = None
    """Of this file alone, on the images that were kept from the choice."""
    added: bool = True
    with_it: float | None = None
    """Greedy: the accuracy of the average with it, on the images that were chosen on."""


class Averaged(Record):
    """An average, and how it came about."""

    method: Method
    ingredients: tuple[Ingredient, ...]
    """In the order given; of a greedy soup, in the order tried."""
    accuracy: float | None = None
    """Of the average, on the images that were chosen on."""
    held_out: float | None = None
    """Of the average, on the images that were kept from the choice."""
    num_images: int = 0
    """Images that were chosen on."""
    num_held_out: int = 0
    whole: float | None = None
    """Of the average, on all of them; it stands in the card."""
    statistics: str
    """What became of the statistics of batch normalisation."""
    has_card: bool

    @property
    def best_single(self) -> Ingredient | None:
        """The file with the best accuracy of its own on the images that were chosen on; None if none was measured."""
        measured = [one for one in self.ingredients if one.accuracy is not None]
        return max(measured, key=lambda one: one.accuracy or 0.0, default=None)


def average_files(
    paths: Sequence[Path],
    out: Path,
    *,
    method: Method = "uniform",
    decay: float = 0.9,
    last: int | None = None,
    run: Path | None = None,
    data: str | None = None,
    root: Path | None = None,
    holdout: float = 0.0,
    split_seed: int = 0,
    statistics: Statistics = "recompute",
    device: str = "auto",
    model: nn.Module | str | None = None,
) -> Averaged:
    """Average weights of one network and save the result with a card, ready for evaluation and prediction.

    Args:
        paths: weight files of any origin, checkpoints, or run folders, in the order that `ema` follows.
        out: where the result goes.
        method: the mean of all; a moving average over the order given; or a greedy soup by validation accuracy.
        decay: how much of the moving average stays at each file.
        last: of run folders, take this many of their newest checkpoints instead of their best weights.
        run: the run whose data and network count; without it, the one that the first file lies in.
        data: other images to choose and to judge on.
        root: where a named data set lies.
        holdout: keep this share of the images from the choice, class by class, and judge on them, too.
        split_seed: another number keeps other images.
        statistics: of batch normalisation: measured anew on training images, or averaged like weights.
        device: where to compute.
        model: as for `Classifier.load`.

    Raises:
        RecipeError: too few files, or no images where images are needed.
        ModelFileError: a file is damaged, or of another network.
        DataError: the data of the run has changed.
    """
    files = _listed(paths, last)
    folder = RunFolder(run.expanduser().resolve()) if run is not None else run_of(files[0])
    if not 0 <= holdout < 1:
        raise RecipeError(f"holdout = {holdout}: it must be a share from 0 to below 1")
    if not 0 <= decay < 1:
        raise RecipeError(f"decay = {decay}: it must be from 0 to below 1")
    if folder is not None:
        with out_of_memory_named("--device cpu"):
            judge = Judge.of_run(
                folder, data=data, root=root, holdout=holdout, split_seed=split_seed, device=device, model=model
            )
            return _judged(judge, files, out, method, decay, statistics)
    if method == "greedy" or holdout or data is not None:
        raise RecipeError(
            f"{files[0]} lies in no run, so there is neither a network nor an image to judge it by",
            hint="name the run that it belongs to: --run RUN",
        )
    return _unjudged(files, out, method, decay)


def _listed(paths: Sequence[Path], last: int | None) -> list[Path]:
    """Return the files that are meant."""
    if last is not None and last < 1:
        raise RecipeError(f"last = {last}: it must be at least 1")
    files: list[Path] = []
    for path in (path.expanduser() for path in paths):
        folder = RunFolder(path)
        if last is not None and folder.plan.is_file():
            files += sorted(checkpoints(folder.checkpoints)[:last])
        else:
            files.append(path)
    if len(files) < 2:
        raise RecipeError(
            f"averaging takes two files or more, not {len(files)}",
            hint="name several files, or a run with --last 5: its newest checkpoints, of which --run.keep keeps more",
        )
    return files


def _unjudged(files: Sequence[Path], out: Path, method: Method, decay: float) -> Averaged:
    """Average files of which no run is known, by their tensors alone."""
    final = open_weights(files[-1])
    card = final.card

    def each() -> Iterator[Weights]:
        for path in files[:-1]:
            opened = open_weights(path)
            if card is not None:
                refuse_other_card(path, opened.card, card)
            yield without_prefix(opened.tensors, final.tensors)
        yield final.tensors

    result = dict(exponential(each(), decay) if method == "ema" else uniform(each()))
    if card is None:
        save_plain(out, result)
    else:
        save_model(out, result, card.replaced(accuracy=None, loss=None))
    return Averaged(
        method=method,
        ingredients=tuple(Ingredient(file=str(path)) for path in files),
        statistics="averaged like weights, which is only about right: name the run (--run RUN) to measure them anew",
        has_card=card is not None,
    )


def _judged(
    judge: Judge, files: list[Path], out: Path, method: Method, decay: float, statistics: Statistics
) -> Averaged:
    """Average files of a run, judge the result by its images, and save it."""
    alone = judge.judge_each(files)
    scores = [judge.accuracy(one.evaluation, held=False) for one in alone]
    result, tried = _mix(judge, files, method, decay, statistics, scores)
    used = [alone[one.index] for one in tried if one.added]
    final = judge.evaluate(result)
    epoch, step = max(one.epoch for one in used), max(one.step for one in used)
    save_model(out, dict(result), model_card(judge.plan, epoch=epoch, step=step, metrics=final.metrics))
    kept = bool(judge.held.any())
    return Averaged(
        method=method,
        ingredients=tuple(
            Ingredient(
                file=str(files[one.index]),
                accuracy=scores[one.index],
                held_out=judge.accuracy(alone[one.index].evaluation, held=True) if kept else None,
                added=one.added,
                with_it=one.score,
            )
            for one in tried
        ),
        accuracy=judge.accuracy(final, held=False),
        held_out=judge.accuracy(final, held=True) if kept else None,
        num_images=int((~judge.held).sum()),
        num_held_out=int(judge.held.sum()),
        whole=final.metrics.accuracy,
        statistics=_said(judge, statistics, alone=len(used) == 1),
        has_card=True,
    )


def _mix(
    judge: Judge, files: list[Path], method: Method, decay: float, statistics: Statistics, scores: list[float]
) -> tuple[Weights, tuple[Tried, ...]]:
    """Return the average, with its statistics, and what became of each file."""
    finish = judge.with_statistics if statistics == "recompute" else dict
    if method == "greedy":
        return greedy(
            lambda place: judge.open(files[place]).tensors,
            scores,
            lambda weights: judge.accuracy(judge.evaluate(weights), held=False),
            finish=finish,
        )
    weights = (judge.open(path).tensors for path in files)
    result = exponential(weights, decay) if method == "ema" else uniform(weights)
    return finish(result), tuple(Tried(place, added=True, score=None) for place in range(len(files)))


def _said(judge: Judge, statistics: Statistics, *, alone: bool) -> str:
    """Say what became of the statistics."""
    if not any(tracked_norms(judge.module)):
        return "the network keeps none"
    if alone:
        return "those of the one file that remains"
    if not judge.moving:
        return "the same in all files, kept"
    if statistics == "recompute":
        return f"measured anew on {judge.num_measured:,} training images, in {len(judge.moving)} layers"
    return "averaged like weights, which is only about right"
