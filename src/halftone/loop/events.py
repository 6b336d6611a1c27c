"""What the loop says while it runs. Numbers that still lie on the device are tensors: read them when you need them."""

from dataclasses import dataclass

from torch import Tensor

from halftone.data.survey import Fault
from halftone.loop.evaluate import Evaluation
from halftone.schedule.adaptive import Action


@dataclass(slots=True)
class StepTaken:
    """One optimizer update was tried."""

    tried: int
    """Updates tried so far, this one included."""
    step: int | Tensor
    """Updates applied so far; skipped ones do not count."""
    epoch: int
    """From 1."""
    batch: int
    """Position in the epoch, from 1."""
    num_images: int
    loss: Tensor
    """Mean training loss of the batch, []."""
    num_correct: Tensor | None
    """Correct predictions in the batch, []; None where labels are mixed."""
    lr: float | Tensor
    """Rate of the first group."""
    applied: bool | Tensor
    loss_scale: Tensor | None
    grad_norm: Tensor | None
    seconds: float
    """Wall time of the run so far."""
    update_ratio: Tensor | None = None
    """Norm of the update over that of the weights, []; in some of the steps."""


@dataclass(slots=True)
class WarmupDecided:
    """An adaptive warmup decided something."""

    tried: int
    step: int
    action: Action
    share: float
    """Of the peak, from now on."""
    reason: str


@dataclass(slots=True)
class LayersThawed:
    """Layers that stood still begin to train."""

    tried: int
    step: int
    names: tuple[str, ...]
    num_trainable: int
    """Parameters that train from now on."""


@dataclass(slots=True)
class LayersHalted:
    """Layers that trained stand still from now on."""

    tried: int
    step: int
    names: tuple[str, ...]
    num_trainable: int
    """Parameters that still train."""


@dataclass(slots=True)
class PicturesGrown:
    """Training pictures have more pixels from now on."""

    tried: int
    """Updates tried so far."""
    size: int
    """Height and width in pixels."""


@dataclass(slots=True)
class BatchDivided:
    """Memory ran out in a step, and batches pass through the network in smaller parts from now on."""

    tried: int
    """Updates tried so far; the last of them was made again."""
    num_images: int
    """In the batch."""
    num_parts: int
    """That it was divided into; their gradients add up to one update."""
    normalised: bool
    """Whether the network has batch normalisation, which takes its statistics from each part by itself."""
    shortage: str
    """What was said when memory ran out."""


@dataclass(slots=True)
class EvaluationDivided:
    """Memory ran out in an evaluation, and fewer images pass through the network at once from now on."""

    tried: int
    """Updates tried so far."""
    part: str
    """`train`, `validation` or `test`: the images that were evaluated."""
    at_once: int
    """Images per pass, at most."""
    shortage: str
    """What was said when memory ran out."""


@dataclass(slots=True)
class Unreadable:
    """An image could not be read and was left out."""

    part: str
    """`train`, `validation` or `test`."""
    fault: Fault


@dataclass(slots=True)
class BatchLeftOut:
    """Of a batch, less than two images can be read, so there was no update; it counts as tried."""

    tried: int
    """Updates tried so far, this one included."""


@dataclass(slots=True)
class GradientsVanished:
    """The gradients of many steps in a row were exactly zero, as far as was looked."""

    tried: int
    """Updates tried so far."""
    num_steps: int
    """How long this has been so, at least."""
    half: bool
    """Whether they were computed in fp16, where what is below 6e-8 is zero."""
    loss_scale: Tensor | None
    """[], or None where the loss is not scaled."""


@dataclass(slots=True)
class Evaluating:
    """Progress of an evaluation."""

    done: int
    total: int


@dataclass(slots=True)
class EpochDone:
    """An epoch was trained, and evaluated unless validation is rarer: then the evaluation has seen no image."""

    epoch: int
    step: int
    seconds: float
    train_loss: float | None
    """Mean over the images of the applied steps; None if there were none."""
    train_accuracy: float | None
    evaluation: Evaluation
    lr: float
    images_per_second: float
    """Training only."""
    train_seconds: float
    """Of this epoch, without evaluation."""
    data_wait_seconds: float
    """Of these, in which the host waited for a batch of images."""
    peak_memory_mb: float
    loss_scale: float | None
    skipped_steps: int
    """In the whole run so far."""
    improved: bool
    """Whether this is the best epoch so far."""
    num_parts: int
    """Passes that a batch is divided into at the end of the epoch."""


@dataclass(slots=True)
class RateLowered:
    """The schedule reacted to a plateau."""

    epoch: int
    factor: float


@dataclass(slots=True)
class StoppedEarly:
    """The stop rule ended the run."""

    epoch: int
    reason: str


LoopEvent = (
    StepTaken
    | BatchDivided
    | EvaluationDivided
    | WarmupDecided
    | LayersThawed
    | LayersHalted
    | PicturesGrown
    | Unreadable
    | BatchLeftOut
    | GradientsVanished
    | Evaluating
    | EpochDone
    | RateLowered
    | StoppedEarly
)
