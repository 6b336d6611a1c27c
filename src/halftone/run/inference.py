"""Using a trained model: predict single images, evaluate whole sets. With the numbers of training, bit for bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from halftone.base.errors import DataError, ModelFileError, RecipeError, UnreadableImage, closest, listed
from halftone.base.inputs import InputSpec
from halftone.base.records import Record, decided
from halftone.data.config import Views
from halftone.data.cut import cut_file
from halftone.data.decode import pixels_of, read_file
from halftone.data.fit import fit
from halftone.data.labelled import Labelled, Parts, Pixels, Relabelled
from halftone.data.open import open_source, settled_source
from halftone.data.sources.arrays import from_arrays
from halftone.data.sources.torchvision import KNOWN
from halftone.loop.evaluate import Evaluation, conclude, evaluate, mean_logits
from halftone.metrics.report import Metrics
from halftone.precision.compute import evaluating
from halftone.run.folder import RunFolder
from halftone.run.inference_mode import asked_mode, slow_notes
from halftone.run.model_file import ModelCard, load_model
from halftone.run.plan.data import check_limit, check_same_data, open_data
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.run.session import evaluation_set, input_of_card
from halftone.system.device import choose_device
from halftone.system.memory import out_of_memory_named
from halftone.system.threads import usable_cores


class ClassProbability(Record):
    """One class and how likely the model holds it."""

    name: str
    probability: float


class Prediction(Record):
    """What the model says of one image."""

    image: str
    label: str
    probability: float
    top: tuple[ClassProbability, ...]
    """The likeliest classes, likeliest first."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained model, ready to predict."""

    module: nn.Module
    card: ModelCard
    device: torch.device

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        model: nn.Module | str | None = None,
        precision: str = "auto",
    ) -> "Classifier":
        """Load a run's best weights, or a weight file of a run.

        Args:
            path: a run's folder or one of its weight files; both may have been moved.
            device: where to compute.
            model: the network, if it was passed in Python when it was trained, or the place of your own class,
                `file.py:Class`, if it has moved or if a weight file alone names it.
            precision: the mode to compute in; auto is that of the training's evaluations.

        Raises:
            ModelFileError: nothing is there, or it is damaged.
            RecipeError: there is no such mode, or the device cannot compute in it.
        """
        place = choose_device(device)
        asked = asked_mode(precision, place)
        loaded = load_model(weight_file(Path(path)), model, trusted=Path(path).is_dir()).computing_in(asked)
        return cls(loaded.module.to(place), loaded.card, place)

    @property
    def notes(self) -> tuple[str, ...]:
        """What slows it down on this device."""
        return slow_notes(self.card, self.device)

    def predict(self, images: Sequence[Path | str | Pixels | Image.Image], *, top: int = 5) -> Iterator[Prediction]:
        """Predict images one by one, each decoded as in training.

        Args:
            images: files, arrays uint8 [height, width, 1 or 3], or Pillow images.
            top: classes to list for each.

        Raises:
            RecipeError: `top` is not positive.
            UnreadableImage: naming the one that cannot be read.
        """
        if top < 1:
            raise RecipeError(f"top = {top}: at least one class is listed")
        prepare = input_of_card(self.card, self.device)
        for number, image in enumerate(images):
            name = str(image) if isinstance(image, Path | str) else f"image-{number}"
            pixels = _seen(image, name, self.card.input)
            batch = torch.from_numpy(np.array(pixels[None])).to(self.device).permute(0, 3, 1, 2)
            with torch.inference_mode(), evaluating(self.card.precision, self.device.type):
                logits = mean_logits(self.module, batch, prepare, self.card.views)
            probabilities = logits.float().softmax(1)[0].cpu()
            # stable: among equal ones the first counts, as in the evaluation
            values, indices = probabilities.sort(descending=True, stable=True)
            ranked = tuple(
                ClassProbability(name=self.card.classes[index], probability=value)
                for index, value in zip(indices.tolist()[:top], values.tolist(), strict=False)
            )
            yield Prediction(image=name, label=ranked[0].name, probability=ranked[0].probability, top=ranked)


def _seen(image: Path | str | Pixels | Image.Image, name: str, spec: InputSpec) -> Pixels:
    """Return what the network sees of an image, uint8 [size, size, channels]."""
    try:
        if isinstance(image, Path | str):
            return cut_file(read_file(Path(image)), spec)
        if isinstance(image, Image.Image):
            return fit(pixels_of(image), spec)
        return fit(from_arrays(np.asarray(image)[None], np.zeros(1, dtype=np.int64)).images[0], spec)
    except UnreadableImage as error:
        raise UnreadableImage(f"{name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation, and what it was made on."""

    evaluation: Evaluation
    images: Labelled
    part: str
    """`validation`, `test` or `train`."""
    notes: tuple[str, ...] = ()
    """What became of the weights and the pictures, where no run says it; what slows it down on this device."""

    @property
    def metrics(self) -> Metrics:
        """The numbers."""
        return self.evaluation.metrics


def weight_file(path: Path) -> Path:
    """Return the weight file that a path means: itself, or the best of a run's folder.

    Raises:
        ModelFileError: there is none.
    """
    path = path.expanduser()
    if path.is_dir():
        folder = RunFolder(path)
        for file in (folder.best, folder.last):
            if file.is_file():
                return file
        raise ModelFileError(f"{path} holds no weights", hint="name a run's folder, or a weight file of one")
    if not path.is_file():
        raise ModelFileError(f"there is no run or weight file {path}", hint="runs are kept in runs/, by default")
    return path


def evaluate_run(
    path: Path,
    source: Any = None,
    *,
    weights: str | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    data: Any = None,
    model: nn.Module | str | None = None,
    views: Views | None = None,
    precision: str = "auto",
) -> Evaluated:
    """Evaluate a run's weights, on its own validation images or on other data.

    Args:
        path: the run's folder.
        source: other data, by name or passed in Python; without it, or with the run's own, the images that the run
            was validated on. Of other data the validation part is taken, or the test part, or all there is.
        weights: `best`, `last`, or a weight file; without it the best.
        root: where a named data set lies; without it where the run found its own.
        download: allow torchvision to download it.
        device: where to compute.
        data: the run's own data, if it was passed in Python.
        model: as for `Classifier.load`.
        views: how often to look at an image; without it, as often as in training.
        precision: the mode to compute in; auto is that of the training's evaluations.

    Raises:
        RecipeError: there is no such mode, or the device cannot compute in it.
        DataError: the run's data has changed, other data has a class that the model does not know, or too many
            images cannot be read.
        ModelFileError: no run, no weights, or damaged ones.
    """
    folder = RunFolder(path.expanduser().resolve())
    plan = folder.read_plan()
    recipe = plan.settled
    named = {"best": folder.best, "last": folder.last, None: folder.best}
    file = named.get(weights) or Path(weights or "").expanduser()
    place = place_of(recipe, device)
    asked = asked_mode(precision, place)
    loaded = load_model(file, model, trusted=weights in named).computing_in(asked)
    card = loaded.card
    if card.classes != plan.data.classes or card.input != plan.input:
        raise ModelFileError(
            f"{file} belongs to another run: its classes or its input differ from those of {folder.path}",
            hint="evaluate it in its own run's folder",
        )
    own = source is None or (isinstance(source, str) and settled_source(source) == recipe.data.source)
    if own:
        part, images = "validation", own_images(plan, data)
    else:
        part, images = other_images(recipe, source, root, download, card.classes)
    with out_of_memory_named("a smaller set, or --device cpu"):
        prepared = evaluation_set(plan, images, place, keep=own and plan.keep_validation)
        prepared = prepared if views is None else replace(prepared, views=views)
        prepared = replace(prepared, compute=partial(evaluating, card.precision, place.type))
        evaluation = conclude(evaluate(loaded.module.to(place), prepared))
    check_limit(evaluation.faults, len(images.labels), recipe.data)
    return Evaluated(evaluation, images, part, slow_notes(card, place))


def place_of(recipe: Recipe, device: str) -> torch.device:
    """Choose where to compute for a run that was trained, and with how many threads; auto is the CPU if it used it."""
    place = choose_device(recipe.device if device == "auto" and recipe.device == "cpu" else device)
    if place.type == "cpu":
        torch.set_num_threads(min(decided(recipe.threads), usable_cores()))
    return place


def own_images(plan: Plan, data: Any) -> Labelled:
    """Open the images that a run was validated on."""
    opened = open_data(plan.settled.data, data, Notebook(), workers=usable_cores())
    check_same_data(plan.data, opened.facts, hint="name the data to evaluate it as it is: halftone evaluate RUN DATA")
    return opened.validation


def other_images(
    recipe: Recipe, source: Any, root: Path | None, download: bool, classes: tuple[str, ...]
) -> tuple[str, Labelled]:
    """Open other data, match its classes to the model's by name, and say which part of it is taken."""
    name, given = (source, None) if isinstance(source, str) else ("given", source)
    inherited = recipe.data.root if name.lower() in KNOWN else None
    config = recipe.data.replaced(source=name, root=root or inherited, download=download)
    part, images = one_part(open_source(config, given, least_classes=1))
    return part, known_images(images, classes, name)


def one_part(parts: Parts) -> tuple[str, Labelled]:
    """Return the part to evaluate on, with its name: validation, or test, or all there is."""
    named = (("validation", parts.validation), ("test", parts.test), ("train", parts.train))
    return next((part, images) for part, images in named if images is not None)


def known_images(images: Labelled, classes: tuple[str, ...], name: str) -> Labelled:
    """Return images with their classes numbered as in the model, matched by name.

    Raises:
        DataError: there is a class that the model does not know.
    """
    present = [images.classes[number] for number in np.unique(images.labels)]
    unknown = [name for name in present if name not in classes]
    if unknown:
        raise DataError(
            f"{name} has classes that the model does not know: {listed(unknown)} (it knows {listed(classes)})",
            hint=closest(unknown[0], classes) or "the class folders must carry the names of training",
        )
    return Relabelled(images, classes)
