"""The part of the plan that concerns the data: what is there, how it is split, what is broken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halftone.base.errors import DataError, UnreadableImage, listed
from halftone.base.inputs import InputSpec
from halftone.data.check import decode_faults
from halftone.data.config import DataConfig
from halftone.data.cut import cut
from halftone.data.fingerprint import fingerprint
from halftone.data.labelled import Labelled, Parts, Pixels, in_memory, without
from halftone.data.open import open_source
from halftone.data.reading import TIMEOUT, Readers
from halftone.data.split import hold_out
from halftone.data.survey import Fault, Survey, survey
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import DataFacts
from halftone.system.threads import usable_cores

HELD_OUT = 0.2
_UNEVEN = 10
"""How many times more images one class has than another when it is worth a word."""
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
    seen = survey(parts.train, workers=workers, timeout=config.timeout)
    faults = _check_part(parts.train, config, seen=seen, workers=workers)
    for part in (parts.validation, parts.test):
        if part is not None:
            _check_part(part, config, workers=workers)
    train = without(parts.train, [fault.index for fault in faults])
    parts = Parts(train, parts.validation, parts.test, parts.notes)
    train, validation, test, origin = _split(parts, config, notes, workers=workers)
    found = [*parts.notes, *_file_notes(seen), *_class_notes(train, validation)]
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


def _check_part(part: Labelled, config: DataConfig, *, workers: int, seen: Survey | None = None) -> tuple[Fault, ...]:
    """Return what cannot be read of a part, from its headers or, where one fault is too many, from all of it.

    Raises:
        DataError: it is too much.
    """
    if config.on_error == "fail":
        faults = decode_faults(part, workers=workers, timeout=config.timeout)
        check_limit(faults, len(part.labels), config)
        return faults
    seen = seen or survey(part, workers=workers, timeout=config.timeout)
    check_limit(seen.faults, seen.num_seen, config, sampled=not seen.complete)
    return seen.faults


def _file_notes(seen: Survey) -> Iterator[str]:
    """Say which training files are not quite what they seem."""
    if seen.renamed:
        names = listed(seen.renamed, most=3)
        yield f"{len(seen.renamed)} of another format than their names say, read by their content: {names}"
    if seen.animated:
        yield f"{len(seen.animated)} with several frames, of which the first is used: {listed(seen.animated, most=3)}"


def _class_notes(train: Labelled, validation: Labelled) -> Iterator[str]:
    """Say which classes are missing in a part, and whether some are far more frequent than others."""
    counts, held = (np.bincount(part.labels, minlength=len(train.classes)) for part in (train, validation))
    images = {name: int(count) for name, count in zip(train.classes, counts, strict=True) if count}
    absent = [name for name in train.classes if name not in images]
    if absent:
        yield f"no training images of {listed(absent)}"
    unseen = [name for name, count in zip(train.classes, held, strict=True) if name in images and not count]
    if unseen:
        yield f"no validation images of {listed(unseen)}: nothing is known of how well they are told"
    most, least = max(images, key=images.__getitem__), min(images, key=images.__getitem__)
    if images[most] > _UNEVEN * images[least]:
        yield (
            f"uneven classes: {images[most]} images of {most}, {images[least]} of {least}; "
            "--data.balanced draws them equally often, --loss.class-weights balanced weighs them"
        )


_SAME_AGAIN = "bring it back as it was, or start a new run from the weights: --weights best.safetensors"


def check_same_data(before: DataFacts, now: DataFacts, *, hint: str = _SAME_AGAIN) -> None:
    """Refuse to go on with other data than a run began with.

    Raises:
        DataError: saying what differs.
    """
    counted = {
        "training images": (before.num_train, now.num_train),
        "validation images": (before.num_validation, now.num_validation),
        "test images": (before.num_test, now.num_test),
        "unreadable images": (before.num_unreadable, now.num_unreadable),
        "classes": (len(before.classes), len(now.classes)),
    }
    changes = [f"{then} {name} then and {new} now" for name, (then, new) in counted.items() if then != new]
    if before.classes != now.classes or before.fingerprint != now.fingerprint or changes:
        raise DataError(
            f"the data changed since the run began: {'; '.join(changes) or 'other images of the same number'}",
            hint=hint,
        )


def check_limit(faults: Sequence[Fault], num_images: int, config: DataConfig, *, sampled: bool = False) -> None:
    """Stop if more images are unreadable than allowed; of a sample, if that is beyond chance.

    Raises:
        DataError: naming the first of them.
    """
    expected = config.max_bad * num_images
    allowed = 0 if config.on_error == "fail" else int(expected + (3 * expected**0.5 if sampled else 0))
    if len(faults) > allowed:
        first = faults[0]
        limit = "none are allowed" if config.on_error == "fail" else f"at most {allowed} are skipped"
        looked = f"{num_images} images{' looked at' if sampled else ''}"
        raise DataError(
            f"{len(faults)} of {looked} cannot be read, and {limit}; the first is {first.name}: {first.reason}",
            hint="`halftone check-data` names them all; --data.max-bad allows more",
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
    if parts.validation is not None and parts.test is not None:
        unused = f"the set's own validation part of {len(parts.validation.labels)} images is not used"
        notes.note("data.validation", share, f"a share was asked for; {unused}")
    if config.validation == "auto":
        notes.note("data.validation", share, "the set has no validation part; held out by content, class by class")
    train, validation = hold_out(parts.train, share, seed=config.split_seed, workers=workers, timeout=config.timeout)
    if len(validation.labels) == 0:
        raise DataError("no class has two images, so none can be held out for validation", hint="add images")
    return train, validation, parts.test or parts.validation, f"{share:g} of the training images, by content"


def measure(
    source: Labelled, spec: InputSpec, *, timeout: float = TIMEOUT
) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Measure the mean and deviation of each channel on evenly spaced images.

    Returns:
        Both for pixels in [0, 1], and the number of images measured.
    """
    count = min(len(source.labels), MEASURED if in_memory(source) else MEASURED // 8)
    total = np.zeros((2, spec.channels))
    num_pixels = used = 0

    def see(index: int) -> Pixels | None:
        try:
            return cut(source, index, spec)
        except UnreadableImage:
            return None  # it is counted where it would have been used

    indices = np.linspace(0, len(source.labels) - 1, count).astype(int).tolist()
    with Readers(usable_cores(), timeout=timeout, name=source.name) as readers:
        for seen in readers.map(see, indices):
            if seen is None:
                continue
            pixels = seen.reshape(-1, spec.channels) / 255.0
            total += np.stack([pixels.sum(0), (pixels**2).sum(0)])
            num_pixels += len(pixels)
            used += 1
    if not used:
        raise DataError("none of the training images can be read", hint="`halftone check-data` says why")
    mean, square = total / num_pixels
    std = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return tuple(round(float(x), 6) for x in mean), tuple(round(float(x), 6) for x in std), used
