"""Which labels of a data set a trained run holds wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from halftone.base.errors import DataError, ModelFileError
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled, Parts
from halftone.data.open import open_source, settled_source
from halftone.loop.evaluate import Probabilities, class_probabilities
from halftone.metrics.label_errors import find_label_errors
from halftone.run.folder import RunFolder
from halftone.run.inference import known_images, place_of
from halftone.run.model_file import load_model
from halftone.run.plan.data import OpenedData, check_same_data, open_data
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import DataFacts
from halftone.run.session import evaluation_set
from halftone.system.memory import out_of_memory_named
from halftone.system.threads import usable_cores

UNSURE = 0.9
"""A run that agrees with a smaller share of the labels names many right ones, too."""
Seen = Literal["no", "yes", "unknown"]
"""Whether the run was trained on images: then it repeats the labels that it was given, and finds fewer wrong ones."""


_REMARKS: dict[Seen, str] = {
    "no": "it was not trained on these images",
    "yes": "it was trained on these images and may have learned wrong labels by heart, so fewer are found",
    "unknown": "the data changed since, so it is not known which of these images it was trained on",
}


@dataclass(frozen=True, slots=True)
class LabelError:
    """An image whose label is probably wrong."""

    index: int
    """In its part."""
    name: str
    given: str
    given_probability: float
    suggested: str
    probability: float


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """What a run says of the labels of some images."""

    part: str
    images: Labelled
    """Classes numbered as in the model."""
    trained_on: Seen
    num_judged: int
    """Images that could be read."""
    agreement: float
    """The share of them of which the likeliest class is the label: the accuracy, if the labels were right."""
    errors: tuple[LabelError, ...]
    """The least believed label first."""

    def remarks(self) -> list[str]:
        """Say how far this is to be believed, for people."""
        remarks = [_REMARKS[self.trained_on]]
        if self.agreement < UNSURE:
            remarks.append("a run that is so often at odds with the labels names right ones, too")
        return remarks


class Step(NamedTuple):
    """How far the judging of a part is; the last step of each holds the result."""

    part: str
    done: int
    total: int
    judged: JudgedPart | None = None


def check_labels(path: Path, data: DataConfig, *, device: str = "auto", model: str | None = None) -> Iterator[Step]:
    """Judge the labels of all parts of a data set by a run's best weights, each part by itself.

    If it is the data that the run was trained with, its parts are those of the run, which held images out.

    Args:
        path: the run's folder.
        data: the images.
        device: where to compute.
        model: the place of your own class, if it has moved.

    Raises:
        DataError: other data has a class that the model does not know.
        ModelFileError: no run, no weights, or damaged ones.
    """
    folder = RunFolder(path.expanduser().resolve())
    plan = folder.read_plan()
    if not folder.best.is_file():
        raise ModelFileError(f"{path} holds no weights", hint="name a run that was trained to the end of an epoch")
    loaded = load_model(folder.best, model, trusted=True)
    place = place_of(plan.settled, device)
    module = loaded.module.to(place)
    found: OpenedData | Parts
    if settled_source(data.source) == plan.settled.data.source:
        found = open_data(plan.settled.data, None, Notebook(), workers=usable_cores())
        on_train: Seen = "yes" if _is_same(plan.data, found.facts) else "unknown"
        on_others: Seen = "no" if on_train == "yes" else "unknown"
    else:
        found, on_train, on_others = open_source(data, least_classes=1), "no", "no"
    for part, images, seen in (
        ("train", found.train, on_train),
        ("validation", found.validation, on_others),
        ("test", found.test, on_others),
    ):
        if images is None:
            continue
        known = known_images(images, loaded.card.classes, data.source)
        with out_of_memory_named("--device cpu"):
            running = class_probabilities(module, evaluation_set(plan, known, place, keep=False))
            while True:
                try:
                    yield Step(part, next(running), len(known.labels))
                except StopIteration as end:
                    yield Step(part, len(known.labels), len(known.labels), _judged(part, known, seen, end.value))
                    break


def _is_same(before: DataFacts, now: DataFacts) -> bool:
    try:
        check_same_data(before, now)
    except DataError:
        return False
    return True


def _judged(part: str, images: Labelled, seen: Seen, found: Probabilities) -> JudgedPart:
    labels, values = images.labels[found.indices], found.values
    wrong = find_label_errors(labels, values)
    errors = []
    for row, suggested in zip(wrong.images.tolist(), wrong.suggested.tolist(), strict=True):
        index, given = int(found.indices[row]), int(labels[row])
        errors.append(
            LabelError(
                index=index,
                name=images.name(index),
                given=images.classes[given],
                given_probability=float(np.round(values[row, given], 6)),
                suggested=images.classes[suggested],
                probability=float(np.round(values[row, suggested], 6)),
            )
        )
    agreement = float((values.argmax(1) == labels).mean()) if len(labels) else 0.0
    return JudgedPart(part, images, seen, len(labels), agreement, tuple(errors))
