"""What a comparison is made of: the wish, its variants, what each run came to, and the verdicts."""

from typing import Annotated, Literal

from pydantic import Field

from halftone.base.records import Record
from halftone.metrics.report import Metrics

Measure = Literal["accuracy", "loss", "precision", "recall", "f1", "calibration_error"]
"""Of the best weights of a run on the validation images; what the verdict is about."""
SHARES: tuple[Measure, ...] = ("accuracy", "precision", "recall", "f1", "calibration_error")
"""Measures in [0, 1], told in per cent and their differences in points; the loss is told in nats."""
HIGHER_IS_BETTER: tuple[Measure, ...] = ("accuracy", "precision", "recall", "f1")


class CompareConfig(Record):
    """How a comparison is judged, and when it ends."""

    seeds: int = Field(default=5, ge=1, le=1000)
    """Runs of each variant; runs of one seed form a pair. With `until decided`: at most so many."""
    measure: Measure = "accuracy"
    """What is judged, of the best weights on the validation images."""
    margin: Annotated[float, Field(gt=0)] = 0.5
    """Differences within this margin count as none: points of a share, or hundredths of a nat of the loss."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the intervals."""
    target: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """The accuracy to which time is measured; `auto`: the highest one that every finished run reaches."""
    until: Literal["all", "decided"] = "all"
    """Run all seeds, or stop when every verdict is clear; the early looks are paid for with wider intervals."""
    pairs: bool = False
    """Change one setting at a time against the first value of each, instead of trying all combinations."""


class Variant(Record):
    """One way of training."""

    name: str
    """Such as `precision=bf16, warmup=none`; unique in its comparison."""
    changes: dict[str, str]
    """Settings and their values as they were typed, such as `{"precision": "bf16"}`."""


class Digests(Record):
    """What runs of one seed may share, as short hashes; empty where it is not known."""

    weights: str = ""
    """Starting weights and buffers."""
    order: str = ""
    """Order of the images in the first epoch."""
    images: str = ""
    """The first batch after augmentation."""


class EpochPoint(Record):
    """One row of results.csv."""

    epoch: int
    seconds: float
    """Since training began, evaluation and saving included, start-up not."""
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    lr: float | None
    loss_scale: float | None


class Outcome(Record):
    """What one run came to."""

    variant: str
    seed: int
    folder: str
    """Of the run, within that of the comparison; an absolute path for runs that were trained elsewhere."""
    status: Literal["finished", "diverged", "failed"]
    fault: str = ""
    """Why it did not finish, in one line."""
    metrics: Metrics | None = None
    """Of the best weights on the validation images."""
    best_epoch: int = 0
    epochs: tuple[EpochPoint, ...] = ()
    last_accuracy: float | None = None
    """Of the last epoch."""
    settled: dict[str, str] = Field(default_factory=dict)
    """What the plan decided on the varied settings, and on precision, rate and batch."""
    digests: Digests = Digests()
    startup_seconds: float | None = None
    """From the start of the run to its first step: planning, probing and building included."""
    train_seconds: float | None = None
    """Of training alone: no start-up, no evaluation, no saving."""
    images_per_second: float | None = None
    """Median of the epochs, in training."""
    peak_memory_mb: float | None = None
    """Of the process."""
    device_memory_mb: float | None = None
    """Of the accelerator; None on the CPU."""
    joules: float | None = None
    """None where no meter is; why is told once in the comparison."""
    skipped_steps: int = 0


class Interval(Record):
    """A mean of paired differences, variant less baseline, and its confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float
    num_pairs: int
    deviation: float
    """Sample standard deviation of the differences."""
    p_value: float | None
    """Two-sided, of no difference, corrected for the number of verdicts; None where it is undefined."""


class Equivalence(Record):
    """Two one-sided tests of a difference within a margin."""

    margin: float
    p_value: float | None
    shown: bool
    num_more: int | None
    """Further pairs that would show it with a power of 80 %, if the spread stays; None if no number would."""


class Agreement(Record):
    """Of the predictions of two variants, image by image, summed over the pairs."""

    num_images: int
    only_variant: int
    """Right by the variant alone."""
    only_baseline: int
    """Right by the baseline alone."""
    same: float
    """Share of images that both take for the same class."""
    p_value: float
    """McNemar's exact test, of the first pair only: images of several seeds are not independent."""


class Ratio(Record):
    """Variant over baseline, pair by pair."""

    median: float
    low: float
    """The smallest."""
    high: float
    """The largest."""
    num_pairs: int


VerdictKind = Literal["equivalent", "better", "worse", "not shown", "diverges", "failed", "too few"]


class Verdict(Record):
    """What a comparison shows of one variant against the baseline."""

    variant: str
    baseline: str
    measure: Measure
    kind: VerdictKind
    sentence: str
    """For people: the whole verdict in plain words, with its figures."""
    difference: Interval | None = None
    """In the unit of the measure: shares as shares, not as points."""
    equivalence: Equivalence | None = None
    agreement: Agreement | None = None
    seconds: Ratio | None = None
    """Of training alone."""
    seconds_to_target: Ratio | None = None
    memory: Ratio | None = None
    """Of the accelerator where there is one, else of the process."""
    joules: Ratio | None = None
    methods: tuple[str, ...] = ()
    """Which method stands behind each number, a sentence each."""


class Comparison(Record):
    """A whole comparison, as verdict.json holds it."""

    name: str
    command: str
    config: CompareConfig
    variants: tuple[Variant, ...]
    """The first one is the baseline."""
    outcomes: tuple[Outcome, ...]
    verdicts: tuple[Verdict, ...]
    """One for each variant but the baseline."""
    target: float | None
    """The accuracy to which time was measured."""
    notes: tuple[str, ...]
    """What a reader should know: what runs of a seed do not share, why there are no joules, what was left out."""
    environment: dict[str, str]
    """Where it ran."""
