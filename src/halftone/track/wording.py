"""What rare events mean, in a sentence: for the terminal, the log of notices and the report."""

from halftone.loop.events import (
    BatchDivided,
    BatchLeftOut,
    EvaluationDivided,
    GradientsVanished,
    LayersHalted,
    LayersThawed,
    PicturesGrown,
    RateLowered,
    StoppedEarly,
    WarmupDecided,
)
from halftone.run.events import Event, Notice, Tested


def sentence(event: Event) -> str | None:
    """Say what a rare event means, or None for one that needs no words."""
    match event:
        case Notice():
            return event.text
        case BatchDivided():
            return _divided(event)
        case EvaluationDivided():
            at_once = f"at most {event.at_once} of the {event.part} images pass through the network at once from now on"
            return f"memory ran out in an evaluation: {at_once} ({event.shortage})"
        case BatchLeftOut():
            return f"step {event.tried} was left out: less than two images of its batch can be read"
        case GradientsVanished():
            return _vanished(event)
        case RateLowered():
            return f"the rate was lowered to {event.factor:g} of its peak: the loss stands still"
        case WarmupDecided() if event.action != "hurried":  # that is for the log
            return f"warmup {event.action} at {event.share:.0%} of the peak, step {event.step}: {event.reason}"
        case LayersThawed() | LayersHalted():
            became = "thawed" if isinstance(event, LayersThawed) else "frozen"
            return f"{', '.join(event.names)} {became} in step {event.step}: {event.num_trainable:,} parameters train"
        case PicturesGrown():
            return f"pictures of {event.size} pixels from step {event.tried} on"
        case StoppedEarly():
            return f"stopped early: {event.reason}"
        case Tested():
            return f"test part, best weights: accuracy {share(event.evaluation.metrics.accuracy)}"
        case _:
            return None


def _divided(event: BatchDivided) -> str:
    """Say what it means that a batch was divided."""
    most = -(-event.num_images // event.num_parts)
    said = (
        f"memory ran out in step {event.tried}, which was made again: from now on a batch of {event.num_images} passes "
        f"through the network in {event.num_parts} parts of at most {most} images, whose gradients add up"
    )
    if event.normalised:
        said += "; batch normalisation sees the parts, not the batch, so the arithmetic is not that of before"
    return f"{said} ({event.shortage})"


def _vanished(event: GradientsVanished) -> str:
    """Say what it means that all gradients are zero, and what helps."""
    said = f"the gradients have been exactly zero for {event.num_steps} steps, so nothing is learned"
    if not event.half:
        return f"{said}: `halftone diagnose weights` shows where they get lost"
    if event.loss_scale is None:
        return f"{said}: they underflow fp16; --precision.scaling dynamic lifts them"
    scale = float(event.loss_scale)
    return f"{said}: they underflow fp16 at a loss scale of {scale:g}; a larger --precision.scale, or bf16, helps"


def share(value: float | None) -> str:
    """Write a share as per cent."""
    return "-" if value is None else f"{100 * value:.2f} %"
