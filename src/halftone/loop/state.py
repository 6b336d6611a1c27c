"""All that must be saved to go on exactly where a run was, in one place.

Orders, augmentations and rates are functions of the seed and the counters here, so they need no state of their own.
"""

import random
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halftone.loop.session import Session


@dataclass(slots=True)
class Progress:
    """Where the run is. Sums belong to the epoch under way and are kept on the device."""

    loss_sum: Tensor
    """Of the applied steps, weighted by their images, []."""
    num_correct: Tensor
    """Correct predictions in the applied steps, []."""
    step: int = 0
    """Updates applied."""
    tried: int = 0
    """Updates tried, skipped ones included."""
    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the epoch under way that are done."""
    skipped: int = 0
    skipped_in_row: int = 0
    num_images: int = 0
    """Images of the applied steps."""
    seconds: float = 0.0
    """Wall time of the run so far, in all of its processes."""
    train_seconds: float = 0.0
    """Of the epoch under way, without evaluation."""
    stopped: bool = False

    @classmethod
    def start(cls, device: torch.device) -> "Progress":
        """Return the progress of a run that has not begun."""
        exact = torch.float32 if device.type == "mps" else torch.float64
        zero = torch.zeros((), dtype=exact, device=device)
        return cls(loss_sum=zero, num_correct=torch.zeros((), dtype=torch.int64, device=device))

    def count(self, loss: Tensor, num_correct: Tensor | None, num_images: int) -> None:
        """Add an applied step to the sums, without waiting for the device."""
        self.loss_sum.add_(loss, alpha=num_images)
        self.num_images += num_images
        if num_correct is not None:
            self.num_correct += num_correct

    def begin_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.batch, self.num_images, self.train_seconds = 0, 0, 0.0
        self.loss_sum.zero_()
        self.num_correct.zero_()


def capture(session: Session, progress: Progress) -> dict[str, Any]:
    """Return the whole state as a tree of dictionaries, lists, numbers, strings and tensors."""
    state: dict[str, Any] = {
        "progress": {field.name: getattr(progress, field.name) for field in fields(progress)},
        "model": session.model.state_dict(),
        "unlisted": _unlisted_buffers(session.model),
        "optimizer": session.optimizer.state_dict(),
        "precision": session.precision.state_dict(),
        "schedule": session.schedule.state_dict(),
        "best": session.best.state_dict(),
        "random": _capture_random(session.device),
    }
    if session.average is not None:
        state["average"] = session.average.state_dict()
    return state


def restore(session: Session, progress: Progress, state: dict[str, Any]) -> None:
    """Put a captured state back. The random streams come last: nothing after this may draw from them."""
    for field in fields(progress):
        value = state["progress"][field.name]
        if isinstance(value, Tensor):
            getattr(progress, field.name).copy_(value)
        else:
            setattr(progress, field.name, value)
    session.model.load_state_dict(state["model"])
    for name, buffer in _unlisted_buffers(session.model).items():
        buffer.copy_(state["unlisted"][name])
    _restore_optimizer(session.optimizer, state["optimizer"])
    session.precision.load_state_dict(state["precision"])
    session.schedule.load_state_dict(state["schedule"])
    session.best.load_state_dict(state["best"])
    if session.average is not None:
        session.average.load_state_dict(state["average"])
    _restore_random(session.device, state["random"])


def _unlisted_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a network keeps out of its state, though a forward pass may change them."""
    listed = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in listed}


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state, each tensor in the memory layout of its parameter, which fused updates rely on."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _capture_random(device: torch.device) -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": {"version": version, "numbers": list(numbers), "gauss": gauss},
        "numpy": {
            "kind": kind,
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "xpu":
        state["device"] = torch.xpu.get_rng_state(device)
    elif device.type == "mps":
        state["device"] = torch.mps.get_rng_state()
    return state


def _restore_random(device: torch.device, state: dict[str, Any]) -> None:
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["numbers"]), python["gauss"]))
    keys = numpy_state["keys"].numpy().astype(np.uint32)
    position, has_gauss, cached = numpy_state["position"], numpy_state["has_gauss"], numpy_state["cached"]
    np.random.set_state((numpy_state["kind"], keys, position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)
    elif device.type == "xpu":
        torch.xpu.set_rng_state(state["device"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["device"])
