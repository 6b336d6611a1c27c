"""The part of the plan that concerns the data: what is there, how it is split, what is broken."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from halftone.base.errors import DataError, UnreadableImage, listed
from halftone.base.inputs import InputSpec
from halftone.data.check import decode_faults
from halftone.data.config import DataConfig
from halftone.data.fingerprint import fingerprint
from halftone.data.fit import fit
from halftone.data.labelled import Labelled, Parts, in_memory, without
from halftone.data.open import open_source
from halftone.data.split import hold_out
from halftone.data.survey import Fault, Survey, survey
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import DataFacts

HELD_OUT = 0.2
MEASURED = 4096
"""Images that the mean and deviation are measured on, at most."""


@dataclass(frozen=True, slots=True)
class OpenedData:
    """The images of a run, split and surveyed."""

    train: Labelled
    validation: Labelled
    test: Labelled | None
    facts: DataFacts
    survey: Survey
    """Of the training images."""
    unreadable: tuple[Fault, ...]
    """Training images that were left out."""


def open_data(config: DataConfig, given: Any, notes: Notebook, *, workers: int) -> OpenedData:
    """Open the source, look at the headers, leave out what is broken, and split.

    Raises:
        DataError: nothing usable is there, or too much is broken.
    """
    parts = open_source(config, given)
    mark = fingerprint(parts)
    seen = survey(parts.train, workers=workers)
    faults = seen.faults if config.on_error == "skip" else decode_faults(parts.train, workers=workers)
    check_limit(faults, len(parts.train.labels), config)
    train = without(parts.train, [fault.index for fault in faults])
    parts = Parts(train, parts.validation, parts.test, parts.notes)
    train, validation, test, origin = _split(parts, config, notes, workers=workers)
    for part in (validation, test):
        if part is not None and config.on_error == "fail":
            check_limit(decode_faults(part, workers=workers), len(part.labels), config)
    found = list(parts.notes)
    absent = [name for number, name in enumerate(train.classes) if not (train.labels == number).any()]
    if absent:
        found.append(f"no training images of {listed(absent)}")
    facts = DataFacts(
        classes=train.classes,
        num_train=len(train.labels),
        num_validation=len(validation.labels),
        num_test=0 if test is None else len(test.labels),
        validation=origin,
        fingerprint=mark,
        notes=tuple(found),
        num_unreadable=len(faults),
    )
    return OpenedData(train, validation, test, facts, seen, faults)


def check_limit(faults: tuple[Fault, ...], num_images: int, config: DataConfig) -> None:
    """Stop if more images are unreadable than allowed.

    Raises:
        DataError: naming the first of them.
    """
    allowed = 0 if config.on_error == "fail" else int(config.max_bad * num_images)
    if len(faults) > allowed:
        first = faults[0]
        limit = "none are allowed" if config.on_error == "fail" else f"at most {allowed} are skipped"
        raise DataError(
            f"{len(faults)} of {num_images} images cannot be read, and {limit}; the first is "
            f"{first.name}: {first.reason}",
            hint="`halftone check-data` names them all; --data.max_bad allows more",
        )


def _split(
    parts: Parts, config: DataConfig, notes: Notebook, *, workers: int
) -> tuple[Labelled, Labelled, Labelled | None, str]:
    """Return training, validation, test, and where validation comes from."""
    own = parts.validation or parts.test
    if config.validation == "auto" and own is not None:
        name = "validation" if parts.validation is not None else "test"
        test = parts.test if parts.validation is not None else None
        reason = f"the set brings a {name} part of {len(own.labels)} images"
        if test is None and name == "test":
            reason += "; the best epoch is chosen on it, see --data.validation for a stricter way"
        notes.note("data.validation", f"the {name} part", reason)
        return parts.train, own, test, f"the set's own {name} part"
    share = HELD_OUT if config.validation == "auto" else config.validation
    if config.validation == "auto":
        notes.note("data.validation", share, "the set has no validation part; held out by content, class by class")
    train, validation = hold_out(parts.train, share, seed=config.split_seed, workers=workers)
    if len(validation.labels) == 0:
        raise DataError("no class has two images, so none can be held out for validation", hint="add images")
    return train, validation, parts.test or parts.validation, f"{share:g} of the training images, by content"


def measure(source: Labelled, spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Measure the mean and deviation of each channel on evenly spaced images.

    Returns:
        Both for pixels in [0, 1], and the number of images measured.
    """
    count = min(len(source.labels), MEASURED if in_memory(source) else MEASURED // 8)
    total = np.zeros((2, spec.channels))
    num_pixels = used = 0
    for index in np.linspace(0, len(source.labels) - 1, count).astype(int):
        try:
            pixels = fit(source.pixels(int(index)), spec).reshape(-1, spec.channels) / 255.0
        except UnreadableImage:
            continue  # it is counted where it would have been used
        total += np.stack([pixels.sum(0), (pixels**2).sum(0)])
        num_pixels += len(pixels)
        used += 1
    if not used:
        raise DataError("none of the training images can be read", hint="`halftone check-data` says why")
    mean, square = total / num_pixels
    std = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return tuple(round(float(x), 6) for x in mean), tuple(round(float(x), 6) for x in std), used
