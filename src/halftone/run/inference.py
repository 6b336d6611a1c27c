"""Using a trained model: predict single images, evaluate whole sets. With the numbers of training, bit for bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from halftone.base.errors import DataError, ModelFileError, UnreadableImage, closest, listed
from halftone.base.records import Record, decided
from halftone.data.augment.pipeline import Normalise
from halftone.data.config import DataConfig
from halftone.data.decode import decode_file, pixels_of
from halftone.data.fit import fit
from halftone.data.labelled import Labelled, Pixels, Relabelled
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays
from halftone.loop.evaluate import Evaluation, conclude, evaluate
from halftone.optim.loss import main_output
from halftone.precision.formats import autocast
from halftone.run.folder import RunFolder
from halftone.run.model_file import ModelCard, load_model
from halftone.run.plan.data import open_data
from halftone.run.plan.notebook import Notebook
from halftone.run.recipe import Recipe
from halftone.run.session import evaluation_set
from halftone.system.device import choose_device
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
    def load(cls, path: Path | str, *, device: str = "auto", model: nn.Module | str | None = None) -> "Classifier":
        """Load a run's best weights, or a weight file of a run.

        Args:
            path: a run's folder or one of its weight files; both may have been moved.
            device: where to compute.
            model: the network, if it was passed in Python when it was trained, or the place of your own class,
                `file.py:Class`, if it has moved or if a weight file alone names it.

        Raises:
            ModelFileError: nothing is there, or it is damaged.
        """
        place = choose_device(device)
        loaded = load_model(weight_file(Path(path)), model, trusted=Path(path).is_dir())
        return cls(loaded.module.to(place), loaded.card, place)

    def predict(self, images: Sequence[Path | str | Pixels | Image.Image], *, top: int = 5) -> Iterator[Prediction]:
        """Predict images one by one, each decoded as in training.

        Args:
            images: files, arrays uint8 [height, width, 1 or 3], or Pillow images.
            top: classes to list for each.

        Raises:
            UnreadableImage: naming the one that cannot be read.
        """
        normalise = Normalise(self.card.input, self.device)
        for number, image in enumerate(images):
            name = str(image) if isinstance(image, Path | str) else f"image-{number}"
            pixels = fit(_pixels(image, name), self.card.input)
            batch = torch.from_numpy(np.array(pixels[None])).to(self.device).permute(0, 3, 1, 2)
            with torch.inference_mode(), autocast(self.device.type, self.card.precision):
                logits = main_output(self.module(normalise(batch)))
            probabilities = logits.float().softmax(1)[0].cpu()
            values, indices = probabilities.topk(min(top, len(self.card.classes)))
            ranked = tuple(
                ClassProbability(name=self.card.classes[index], probability=value)
                for index, value in zip(indices.tolist(), values.tolist(), strict=True)
            )
            yield Prediction(image=name, label=ranked[0].name, probability=ranked[0].probability, top=ranked)


def _pixels(image: Path | str | Pixels | Image.Image, name: str) -> Pixels:
    try:
        if isinstance(image, Path | str):
            return decode_file(Path(image))
        if isinstance(image, Image.Image):
            return pixels_of(image)
        return from_arrays(np.asarray(image)[None], np.zeros(1, dtype=np.int64)).images[0]
    except UnreadableImage as error:
        raise UnreadableImage(f"{name}: {error}") from error


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
        raise ModelFileError(f"there is no run or weight file {path}")
    return path


def evaluate_run(
    path: Path,
    source: str | None = None,
    *,
    weights: str | None = None,
    device: str = "auto",
    data: Any = None,
    model: nn.Module | str | None = None,
) -> tuple[Evaluation, Labelled]:
    """Evaluate a run's weights, on its own validation images or on other data.

    Args:
        path: the run's folder.
        source: other data, by name; without it the run's own.
        weights: `best`, `last`, or a weight file; without it the best.
        device: where to compute.
        data: data passed in Python, as when the run began.
        model: as for `Classifier.load`.

    Returns:
        The evaluation, and the images it was made on.

    Raises:
        DataError: the data has a class that the model does not know.
        ModelFileError: no run, no weights, or damaged ones.
    """
    folder = RunFolder(path.expanduser().resolve())
    plan = folder.read_plan()
    recipe = plan.settled
    named = {"best": folder.best, "last": folder.last, None: folder.best}
    loaded = load_model(named.get(weights, Path(weights or "")), model, trusted=weights in named)
    place = choose_device(recipe.device if device == "auto" and recipe.device == "cpu" else device)
    if place.type == "cpu":
        torch.set_num_threads(min(decided(recipe.threads), usable_cores()))
    if source is None and data is None:
        opened = open_data(recipe.data, None, Notebook(), workers=usable_cores())
        images = opened.validation
    else:
        images = _other_data(recipe, source, data, loaded.card.classes)
    prepared = evaluation_set(plan, images, place)
    return conclude(evaluate(loaded.module.to(place), prepared)), images


def _other_data(recipe: Recipe, source: str | None, data: Any, classes: tuple[str, ...]) -> Labelled:
    """Open other data and match its classes to the model's by name."""
    config = DataConfig(source=source or "given", root=recipe.data.root, max_megapixels=recipe.data.max_megapixels)
    parts = open_source(config, data, least_classes=1)
    images = parts.validation or parts.test or parts.train
    present = [images.classes[number] for number in np.unique(images.labels)]
    unknown = [name for name in present if name not in classes]
    if unknown:
        raise DataError(
            f"{config.source} has classes that the model does not know: {listed(unknown)} (it knows {listed(classes)})",
            hint=closest(unknown[0], classes) or "the class folders must carry the names of training",
        )
    return Relabelled(images, classes)
