"""Which layer a divergence comes from: the last batch once more, with every layer watched."""

import math

from torch import Tensor

from halftone.data.feed import Batch
from halftone.loop.session import Session
from halftone.precision.config import lowered
from halftone.precision.watch import LayerNumbers, watched
from halftone.system.memory import ran_out

_SLOWER = "lower --lr, lengthen --warmup, or set --optimizer.clip 1"


def blame(session: Session, batch: Batch, *, tried: int) -> tuple[str, str]:
    """Pass a batch through the network again and return what is not finite first, and what helps.

    Both are empty if everything is finite this time: on a device that runs ahead, the batch may be a later one.

    The session is of no use afterwards: gradients and statistics are what this pass left.
    """
    images, targets = session.augment(batch, tried)
    try:
        with watched(session.model) as numbers:
            with session.precision.forward():
                loss = session.criterion(session.model(session.prepare(images)), targets)
            session.precision.backward(loss)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        return "the whole batch does not fit into memory to look for the layer", ""
    mode, scale = session.precision.mode, session.precision.scale
    broken = [name for name, weight in session.model.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        return f"the weights of '{broken[0]}' are not finite", "start again from weights that are"
    if not bool(images.isfinite().all()):
        return "the images are not finite", "look at the augmentation"
    half = lowered(mode) == "fp16"
    forward = next((name for name, seen in numbers.items() if seen.output.not_finite), None)
    if forward is not None:
        return _forward_fault(forward, numbers, half=half)
    return _backward_fault(numbers, loss, scale, half=half)


def _forward_fault(name: str, numbers: dict[str, LayerNumbers], *, half: bool) -> tuple[str, str]:
    largest = max((seen.output.largest for seen in numbers.values()), default=0.0)
    finite = f" (the largest finite number of all layers is {largest:.3g})" if largest else ""
    said = f"the output of layer '{name}' is not finite{finite}"
    if half:
        remedy = f"--precision.layers {name}=fp32, or --precision bf16; a lower --lr if it was fine at first"
        return f"{said}: it overflows fp16, which ends at 65504", remedy
    return said, f"{_SLOWER}; --precision fp32 shows whether the format has a part in it"


def _backward_fault(
    numbers: dict[str, LayerNumbers], loss: Tensor, scale: Tensor | None, *, half: bool
) -> tuple[str, str]:
    value = float(loss.detach())
    if not math.isfinite(value):
        return f"all outputs are finite, but the loss is {value}", _SLOWER
    # the backward pass comes from the end: the layer nearest to the loss was the first
    places = reversed(numbers.items())
    name = next((name for name, seen in places if seen.gradient.not_finite or seen.weight_gradient.not_finite), None)
    if name is None:
        return "", ""
    said = f"the gradient in layer '{name}' is not finite"
    if half and scale is not None:
        return (
            f"{said}: it overflows fp16 at a loss scale of {float(scale):g}",
            f"--precision.layers {name}=fp32, a lower --precision.scale-floor, or --precision bf16",
        )
    return said, _SLOWER
