"""What a run's numbers say of it: whether the network over-fits, under-fits or fits."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from halftone.base.records import Record
from halftone.metrics.report import Metrics

Kind = Literal["over-fits", "under-fits", "fits", "unclear"]
_LEAST_GAP = 0.02
"""A gap in accuracy below this is none that anybody would act on."""
_LOW = 0.9
"""A training accuracy below this is low: the network does not even hold the images that it was trained on."""
_COARSE = 0.1
"""Where two standard errors of the gap are more than this, too few images were measured to say that there is none."""
_FEWEST_EPOCHS = 4
"""With fewer, nothing is said of the direction of the loss."""
_LEAST_RISE = 0.1
"""Of the validation loss, as a share of its lowest value."""
_STANDS_OUT = 3.0
"""Standard errors between the gap of a class and that of all. With many classes, two would be passed by chance."""

_ADVICE: dict[Kind, str] = {
    "over-fits": "Try --augment strong, --dropout 0.3, a larger --l2, or stop earlier with --patience 5; more images "
    "help most.",
    "under-fits": "Try more --epochs, a larger --model, or less of --augment, --dropout and --l2.",
    "fits": "",
    "unclear": "",
}


class EpochLosses(NamedTuple):
    """The mean losses of one epoch."""

    training: float
    """While it was trained: of augmented images, with label smoothing if there is any."""
    validation: float


class Verdict(Record):
    """How the network stands to its images, and why we think so."""

    kind: Kind
    sentence: str
    advice: str
    """What to try, with flags; empty where there is nothing to do."""
    evidence: tuple[str, ...]


class Gap(Record):
    """The difference between two shares."""

    value: float
    """In training less in validation."""
    error: float
    """Its standard error."""

    @property
    def is_certain(self) -> bool:
        """Whether it is more than two standard errors above zero."""
        return self.value > 2 * self.error

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {200 * self.error:.1f} points"


class ClassGap(Record):
    """How one class fares in training and in validation."""

    name: str
    training_recall: float
    gap: Gap
    stands_out: bool
    """Whether its gap is larger than that of all classes, beyond chance."""


def share_gap(training: float, num_training: int, validation: float, num_validation: int) -> Gap:
    """Compare a share of training images with one of validation images.

    The standard error is binomial, with one hit and one miss added to both, so that shares of 0 and 1 are not taken
    for certain (Agresti and Caffo 2000, section 2).
    """
    variance = 0.0
    for share, count in ((training, num_training), (validation, num_validation)):
        moderate = (share * count + 1) / (count + 2)
        variance += moderate * (1 - moderate) / (count + 2)
    return Gap(value=training - validation, error=math.sqrt(variance))


def accuracy_gap(training: Metrics, validation: Metrics) -> Gap | None:
    """Return the gap in accuracy, or None where one of both is undefined."""
    if training.accuracy is None or validation.accuracy is None:
        return None
    return share_gap(training.accuracy, training.num_images, validation.accuracy, validation.num_images)


def class_gaps(training: Metrics, validation: Metrics) -> tuple[ClassGap, ...]:
    """Return the gap in recall of each class that has images in both, the largest first."""
    overall = accuracy_gap(training, validation)
    found = []
    for ours, theirs in zip(training.classes, validation.classes, strict=True):
        if overall is None or ours.recall is None or theirs.recall is None:
            continue
        gap = share_gap(ours.recall, ours.support, theirs.recall, theirs.support)
        above = gap.value - overall.value > _STANDS_OUT * gap.error and gap.value >= _LEAST_GAP
        found.append(ClassGap(name=ours.name, training_recall=ours.recall, gap=gap, stands_out=above))
    return tuple(sorted(found, key=lambda one: -one.gap.value))


def judge(training: Metrics | None, validation: Metrics | None, losses: Sequence[EpochLosses]) -> Verdict:
    """Judge a run.

    The error in validation is that in training plus the gap between them; the larger part says what to work on (Ng
    2018, "Machine Learning Yearning", chapters 20 to 27). A validation loss that rises while the training loss falls
    says the same of the whole run, also where its best weights are early ones.

    Args:
        training: of the best weights, on training images without augmentation; None if it was not measured.
        validation: of the same weights on the validation images; None if no epoch had usable metrics.
        losses: of every epoch that has them.
    """
    if validation is None or validation.accuracy is None:
        return _verdict("unclear", "no epoch was completed with usable metrics", ())
    rise, is_falling = rise_of(losses), still_falling([epoch.validation for epoch in losses])
    said = (_said_of_losses(training, validation), _said_of_rise(rise), _said_of_fall(is_falling))
    evidence = tuple(sentence for sentence in said if sentence)
    gap = None if training is None else accuracy_gap(training, validation)
    if gap is None or training is None or training.accuracy is None:
        if rise:
            return _verdict("over-fits", "the validation loss has risen since its lowest point", evidence)
        if is_falling:
            return _verdict("under-fits", "the validation loss was still falling at the end", evidence)
        return _verdict("unclear", "the best weights were not measured on training images", evidence)
    low = 1 - training.accuracy
    shares = (
        f"{100 * training.accuracy:.1f} % of the training images are right and {100 * validation.accuracy:.1f} % of "
        f"the validation images, a gap of {gap}"
    )
    if gap.is_certain and gap.value >= _LEAST_GAP and gap.value > low:
        return _verdict("over-fits", shares, evidence)
    if rise:
        return _verdict("over-fits", f"{shares}, and the validation loss has risen since its lowest point", evidence)
    if training.accuracy < _LOW or (is_falling and low > _LEAST_GAP):
        return _verdict("under-fits", shares, evidence)
    if not gap.is_certain and 2 * gap.error > _COARSE:
        return _verdict("unclear", f"{shares}: too few images to tell", evidence)
    return _verdict("fits", shares, evidence)


def rise_of(losses: Sequence[EpochLosses]) -> float:
    """Return by which share the validation loss has risen since its lowest point while the training loss fell.

    0 if it rose by a tenth or less, if the lowest point is in the last 30 % of the epochs, or if the training loss did
    not fall: then the network is not learning by heart, it is not learning.
    """
    if len(losses) < _FEWEST_EPOCHS:
        return 0.0
    place, lowest = min(enumerate(losses), key=lambda numbered: numbered[1].validation)
    last = losses[-1]
    if lowest.validation <= 0 or last.training >= lowest.training or place >= 0.7 * len(losses):
        return 0.0
    rise = last.validation / lowest.validation - 1
    return rise if rise > _LEAST_RISE else 0.0


def still_falling(losses: Sequence[float]) -> bool:
    """Tell whether the loss fell by more than 3 % in the last epoch, to its lowest point."""
    return len(losses) >= _FEWEST_EPOCHS and losses[-1] == min(losses) and losses[-1] < 0.97 * losses[-2]


def _said_of_losses(training: Metrics | None, validation: Metrics) -> str:
    if training is None or training.loss is None or validation.loss is None:
        return ""
    return f"loss {training.loss:.3f} in training and {validation.loss:.3f} in validation"


def _said_of_rise(rise: float) -> str:
    return f"the validation loss ended {100 * rise:.0f} % above its lowest point" if rise else ""


def _said_of_fall(is_falling: bool) -> str:
    return "the validation loss was still falling at the end" if is_falling else ""


def _verdict(kind: Kind, because: str, evidence: tuple[str, ...]) -> Verdict:
    sentence = (
        f"The network {kind}: {because}." if kind != "unclear" else f"It is unclear how the network fits: {because}."
    )
    return Verdict(kind=kind, sentence=sentence, advice=_ADVICE[kind], evidence=evidence)
