"""What `diagnose speed` measures and says."""

from collections.abc import Mapping
from typing import Literal

from halftone.base.records import Record
from halftone.loop.clocked import Part

Kind = Literal["waits for data", "decoding takes the cores", "augmentation", "halftone", "model"]
"""What keeps a step from being faster."""


class Pace(Record):
    """Images per second over several rounds."""

    median: float
    least: float
    most: float


class Measured(Record):
    """The numbers behind a verdict."""

    num_steps: int
    """Timed on the real path, in all rounds."""
    step: Mapping[Part, float]
    """Seconds of a mean step on the real path, by part; together they are the whole of it."""
    real: Pace
    """On the real path: images are read, changed and trained on."""
    model: Pace
    """The network alone with the plan's settings: forward, backward and update on random numbers that are there."""
    share: float
    """Of the model's pace that the real path reaches, the median of the rounds; noise can bring it over one."""
    half_batch: float | None
    """Images per second of the network alone with half of the batch; None if half of it is too small."""
    reading: float
    """Images per second of the feed alone: reading, decoding, cropping, or one gather from a resident set."""
    changing: float
    """Images per second of the random changes and the normalisation alone."""
    copying: float | None
    """Images per second from the host to the device alone; None on the CPU, where nothing is copied."""
    precisions: Mapping[str, float]
    """Images per second of the network in other precisions, the plan's own among them; empty where none were tried."""
    start: Mapping[str, float]
    """Seconds of the stages before the first step, in their order."""


class Circumstances(Record):
    """What the plan and the machine are, as far as speed depends on it."""

    model: str
    device: str
    """As its maker calls it."""
    device_kind: str
    size: int
    """Of the network's input, in pixels."""
    batch_size: int
    precision: str
    """The mode, and `auto` is not among them."""
    precision_asked: bool
    """Whether somebody asked for it; otherwise it was measured."""
    feed: Literal["resident", "streaming"]
    workers: int
    threads: int
    cores: int
    """That this process may use."""
    load: float
    """Other programs' and ours: mean number of those that wanted a core in the last minute."""
    picture_side: int
    """The median of the shorter sides of some training images, in pixels."""
    decoded_bytes: int
    """Of the training images at the size of the input."""
    free_bytes: int
    """On the device."""
    cache: str
    """How decoded images are kept between epochs; empty where they are not."""
    keeps_memory: bool
    channels_last: bool
    deterministic: bool
    heavy_changes: bool
    """Whether more is changed at random than mirroring, shifting and cropping."""


class Remedy(Record):
    """Something to change."""

    reason: str
    advice: str
    """A flag, where there is one; otherwise what to do."""


class SpeedDiagnosis(Record):
    """Where the time of a step goes, the limits, and what to change."""

    verdict: Kind
    sentence: str
    remedies: tuple[Remedy, ...]
    circumstances: Circumstances
    measured: Measured
