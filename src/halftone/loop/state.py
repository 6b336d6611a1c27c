"""All that must be saved to go on exactly where a run was, in one place.

Orders, augmentations and rates are functions of the seed and the counters here, so they need no state of their own.
"""

import hashlib
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halftone.loop.arriving import Arriving, Tried
from halftone.loop.session import Session
from halftone.loop.vanishing import Vanishing

_UNSAVED = {"saved": False}
_CLOCK = {"clock": True}


@dataclass(slots=True)
class Progress:
    """Where the run is. Sums belong to the epoch under way and are kept on the device.

    Where the device decides which updates are applied, the numbers that follow from it lag behind; see `settle`.
    """

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
    seconds: float = field(default=0.0, metadata=_CLOCK)
    """Wall time of the run so far, in all of its processes."""
    train_seconds: float = field(default=0.0, metadata=_CLOCK)
    """Of the epoch under way, without evaluation."""
    wait_seconds: float = field(default=0.0, metadata=_CLOCK)
    """Of these, in which the host waited for a batch."""
    stopped: bool = False
    divided: int = 1
    """Pieces that each part of a batch is divided into, since memory ran out."""
    evaluated_at_once: int = 0
    """Images per pass in evaluation, since memory ran out there; 0 for as many as the plan says."""
    vanishing: Vanishing = field(default_factory=Vanishing, metadata=_UNSAVED)
    """Looks out for gradients that are zero."""
    under_way: deque[Tried] = field(default_factory=deque, metadata=_UNSAVED)
    """Steps of which the host has not heard yet whether they were applied."""
    last_applied: bool = field(default=False, metadata=_UNSAVED)
    """Whether the last step that the host has heard of was applied."""
    longest_row: int = field(default=0, metadata=_UNSAVED)
    """The most skipped steps in a row."""
    row_end: int = field(default=0, metadata=_UNSAVED)
    """The last step of that row, by the number tried."""

    @classmethod
    def start(cls, device: torch.device) -> "Progress":
        """Return the progress of a run that has not begun."""
        exact = torch.float32 if device.type == "mps" else torch.float64
        zero = torch.zeros((), dtype=exact, device=device)
        return cls(loss_sum=zero, num_correct=torch.zeros((), dtype=torch.int64, device=device))

    def count(self, applied: bool | Tensor, loss: Tensor, num_correct: Tensor | None, num_images: int) -> None:
        """Add the last step tried to the sums if it was applied, without waiting for the device."""
        if isinstance(applied, Tensor):
            torch.where(applied, self.loss_sum.add(loss, alpha=num_images), self.loss_sum, out=self.loss_sum)
            if num_correct is not None:
                self.num_correct += num_correct * applied
            self.under_way.append(Tried(Arriving(applied), num_images, self.tried))
            return
        if applied:
            self.loss_sum.add_(loss, alpha=num_images)
            if num_correct is not None:
                self.num_correct += num_correct
        self._hear_of(applied, num_images, self.tried)

    def hear(self, *, behind: int = 0) -> None:
        """Learn what became of all steps but the last `behind`, waiting for the device if it is not done with them."""
        while len(self.under_way) > behind:
            step = self.under_way.popleft()
            self._hear_of(step.applied.read(), step.num_images, step.tried)

    def _hear_of(self, applied: bool, num_images: int, tried: int) -> None:
        self.last_applied = applied
        if applied:
            self.step += 1
            self.num_images += num_images
            self.skipped_in_row = 0
            return
        self.skipped += 1
        self.skipped_in_row += 1
        if self.skipped_in_row > self.longest_row:
            self.longest_row, self.row_end = self.skipped_in_row, tried

    def begin_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.batch, self.num_images, self.train_seconds, self.wait_seconds = 0, 0, 0.0, 0.0
        self.loss_sum.zero_()
        self.num_correct.zero_()


def settle(session: Session, progress: Progress) -> None:
    """Wait for the steps under way, so that the host knows what the device does, and rates are numbers again."""
    progress.hear()
    if isinstance(session.optimizer.param_groups[0]["lr"], Tensor):
        session.set_rates(progress.step - progress.last_applied)


def capture(session: Session, progress: Progress) -> dict[str, Any]:
    """Return the whole state as a tree of dictionaries, lists, numbers, strings and tensors."""
    settle(session, progress)
    state: dict[str, Any] = {
        "progress": {name: getattr(progress, name) for name in _saved(progress)},
        "model": session.model.state_dict(),
        "unlisted": _unlisted_buffers(session.model),
        "optimizer": session.optimizer.state_dict(),
        "parameters": _optimized(session),
        "precision": session.precision.state_dict(),
        "schedule": session.schedule.state_dict(),
        "best": session.best.state_dict(),
        "random": _capture_random(session.device),
    }
    if session.average is not None:
        state["average"] = session.average.state_dict()
    return state


def restore(session: Session, progress: Progress, state: dict[str, Any]) -> None:
    """Put a captured state back. The random streams come last: nothing after this may draw from them.

    Raises:
        KeyError, RuntimeError, TypeError, ValueError: it is the state of another network or optimizer.
        ModelFileError: its loss scale is unusable.
    """
    for name in _saved(progress):
        value = state["progress"].get(name)
        if isinstance(value, Tensor):
            getattr(progress, name).copy_(value)
        elif value is not None:  # an older checkpoint may not have counted it
            setattr(progress, name, value)
    session.model.load_state_dict(state["model"])
    for name, buffer in _unlisted_buffers(session.model).items():
        buffer.copy_(state["unlisted"][name])
    if state.get("parameters", _optimized(session)) != _optimized(session):  # older checkpoints do not name them
        raise ValueError("the optimizer's parameters have other names, or another order")
    _restore_optimizer(session.optimizer, state["optimizer"])
    session.precision.load_state_dict(state["precision"])
    session.schedule.load_state_dict(state["schedule"])
    session.best.load_state_dict(state["best"])
    if session.average is not None:
        session.average.load_state_dict(state["average"])
    session.freezing.thaw(progress.step)
    session.freezing.halt(progress.step)
    _restore_random(session.device, state["random"])


def clock_fields() -> set[str]:
    """Return which numbers of the progress the clock decides, so that no two runs share them."""
    return {field.name for field in fields(Progress) if field.metadata.get("clock")}


def _saved(progress: Progress) -> Iterator[str]:
    return (field.name for field in fields(progress) if field.metadata.get("saved", True))


def _optimized(session: Session) -> list[str]:
    """Return the names of the optimizer's parameters, in the order in which its state numbers them."""
    names = {id(parameter): name for name, parameter in session.model.named_parameters()}
    return [names.get(id(parameter), "") for group in session.optimizer.param_groups for parameter in group["params"]]


def _unlisted_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a network keeps out of its state, though a forward pass may change them."""
    listed = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in listed}


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Copy the state, each tensor in the memory layout of its parameter, which fused updates rely on."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                alike = value.shape == parameter.shape
                room = torch.empty_like(parameter, dtype=value.dtype) if alike else torch.empty_like(value)
                values[name] = room.copy_(value)  # torch itself keeps what it was given, and would change it


@contextmanager
def unchanged_random(device: torch.device) -> Iterator[None]:
    """Leave the random streams as they were, so that whoever draws next draws the same."""
    streams = _capture_random(device)
    try:
        yield
    finally:
        _restore_random(device, streams)


def _capture_random(device: torch.device) -> dict[str, Any]:
    """Return where the random streams of Python, NumPy, torch and the device stand."""
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
    """Put the random streams back to where they stood."""
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


def digest_of(*tensors: Tensor) -> str:
    """Return a short hash of the bytes of tensors, to tell whether two runs begin alike."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()
