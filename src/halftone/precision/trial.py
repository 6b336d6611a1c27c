"""A network on trial: full training steps in any precision on one batch, timed, weighed and compared with fp32.

The trial spoils the network's statistics and momentum: give it a copy.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.errors import HalftoneError
from halftone.base.records import decided
from halftone.precision.agreement import Agreement, agreement, gradients_of
from halftone.precision.config import LayerFormat, Mode, PrecisionConfig
from halftone.precision.formats import autocast_dtype
from halftone.precision.policy import clear_policy
from halftone.precision.verbs import Precision
from halftone.system.device import wait_for
from halftone.system.memory import peak_bytes, restart_peak

Loss = Callable[[Any, Tensor], Tensor]
_STEPS_IN_BUDGET = 60
"""A batch of which so many steps do not fit into the budget is probed in part."""
_SMALLEST_PART = 4
_OVER_KEPT, _WORKSPACE = 1.25, 32 << 20
"""A step on a CPU takes this many times what its forward pass keeps, and this many bytes for the workspace of
libraries, beside the gradients: `benchmarks.step_memory` holds it against what steps take."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to compute: a mode, and layers with a format of their own, by kind or name."""

    mode: Mode
    layers: dict[str, LayerFormat] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.layers:
            return self.mode
        kinds = [f"{name} in {chosen}" for name, chosen in self.layers.items()]
        shown = ", ".join(kinds) if len(kinds) <= 3 else f"{', '.join(kinds[:2])} and {len(kinds) - 2} more"
        return f"{self.mode} with {shown}"

    def config(self) -> PrecisionConfig:
        """Return it as it would be asked for."""
        return PrecisionConfig(mode=self.mode, layers=self.layers)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step takes in memory, in bytes."""

    fixed: int
    """Whatever the batch: gradients and workspace. Weights, the optimizer's state and averages come on top."""
    per_image: int
    """For each image in a pass."""


class Trial:
    """Takes full steps with a network of its own: forward, backward, update."""

    def __init__(self, model: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> None:
        """Take the network over.

        Args:
            model: a copy of the one that will be trained, in training mode, on the device.
            images: the batch as the network takes it, [batch, channels, height, width], on the device.
            targets: [batch].
            loss: of the network's outputs and the targets, [].
        """
        self._model = model
        self._images, self._targets, self._loss = images, targets, loss
        self._device = images.device

    def seconds(self, config: PrecisionConfig) -> float:
        """Take one step and return how long it took; the first of a candidate prepares it and takes longer."""
        precision = self._prepared(config)
        wait_for(self._device)
        clock = time.perf_counter()
        self._step(precision)
        precision.step()
        wait_for(self._device)
        return time.perf_counter() - clock

    def gradients(self, config: PrecisionConfig) -> dict[str, Tensor]:
        """Return the gradients of one step without an update; dropout falls as for every other candidate."""
        precision = self._prepared(config)
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            self._step(precision)
        scale = precision.scale
        found = gradients_of(self._model)
        return found if scale is None else {name: gradient / scale for name, gradient in found.items()}

    def agreement(self, config: PrecisionConfig, reference: dict[str, Tensor]) -> Agreement:
        """Compare a candidate's gradients with given ones."""
        return agreement(self.gradients(config), reference)

    def activation_bytes(self, config: PrecisionConfig) -> int:
        """Return how much memory the forward pass keeps for the backward pass, weights aside."""
        precision = self._prepared(config)
        weights = {parameter.untyped_storage().data_ptr() for parameter in self._model.parameters()}
        kept: dict[int, Tensor] = {}

        def note(tensor: Tensor) -> None:
            place = tensor.untyped_storage().data_ptr()
            if place not in weights:
                kept[place] = tensor.detach()  # the tensor itself would hold its graph, which holds what is kept here

        with torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing), precision.forward():
            self._loss(self._model(self._images), self._targets)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    def memory(self, config: PrecisionConfig, *, few: int) -> StepMemory:
        """Weigh a step: by the peaks of two sizes where the device counts its memory, by what is kept elsewhere.

        Args:
            config: the precision.
            few: images in the smaller of both; the larger is the whole batch.
        """
        images, targets = self._images, self._targets
        weights = sum(parameter.numel() * 4 for parameter in self._model.parameters())
        try:
            if self._device.type not in ("cuda", "xpu"):
                self._images, self._targets = images[:few], targets[:few]
                kept = self.activation_bytes(config) // few
                return StepMemory(_WORKSPACE + 2 * weights, int(kept * _OVER_KEPT))
            self.seconds(config)  # libraries take what they need in the first one
            whole = self._peak(config)
            self._images, self._targets = images[:few], targets[:few]
            part = self._peak(config)
        finally:
            self._images, self._targets = images, targets
        per_image = max(1, -(-(whole - part) // (len(images) - few)))
        return StepMemory(max(2 * weights, part - few * per_image), per_image)

    def _peak(self, config: PrecisionConfig) -> int:
        """Return the bytes that a step takes at most beyond what is held before it."""
        wait_for(self._device)
        before = restart_peak(self._device)
        self.seconds(config)
        return peak_bytes(self._device) - before

    def inputs(self, config: PrecisionConfig, wanted: Callable[[nn.Module], bool]) -> dict[str, Tensor]:
        """Return the first input of each layer that is wanted, by name, as it came in one forward pass."""
        precision = self._prepared(config)
        seen: dict[str, Tensor] = {}

        def note(name: str) -> Callable[..., None]:
            def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
                if given:
                    seen.setdefault(name, given[0].detach())

            return keep

        layers = {name: layer for name, layer in self._model.named_modules() if wanted(layer)}
        handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
        try:
            with torch.no_grad(), precision.forward():
                self._model(self._images)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    @property
    def model(self) -> nn.Module:
        """The network on trial."""
        return self._model

    def lowered(self, config: PrecisionConfig) -> torch.dtype:
        """Return the type that a candidate's reduced layers compute in."""
        return autocast_dtype(decided(config.mode)) or torch.float32

    def runs(self, config: PrecisionConfig) -> str:
        """Return why a candidate cannot run here, or nothing if it can."""
        try:
            self.seconds(config)
        except (HalftoneError, RuntimeError, NotImplementedError) as error:
            clear_policy(self._model)
            return " ".join(str(error).split())[:200]
        return ""

    def _step(self, precision: Precision) -> None:
        with precision.forward():
            loss = self._loss(self._model(self._images), self._targets)
        precision.backward(loss)

    def _prepared(self, config: PrecisionConfig) -> Precision:
        """Return the verbs of a candidate, without gradients; its policy takes the place of the last one's."""
        self._model.zero_grad()
        # a rate of zero: the weights stay, and each step does the same work
        optimizer = torch.optim.SGD(self._model.parameters(), lr=0.0, momentum=0.9)
        return Precision(config, self._model, optimizer)


def affordable(model: nn.Module, images: Tensor, targets: Tensor, loss: Loss, *, seconds: float) -> tuple[int, float]:
    """Return how many images of a batch can be probed in some seconds, and the seconds of a step on all of them.

    Args:
        model: a copy of the network, in training mode, on the device.
        images: the whole batch, [batch, channels, height, width].
        targets: [batch].
        loss: of the network's outputs and the targets, [].
        seconds: the budget of the probe.
    """
    size = min(max(_SMALLEST_PART, len(images) // 4), len(images))
    trial, full = Trial(model, images[:size], targets[:size], loss), PrecisionConfig(mode="fp32")
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        trial.seconds(full)
        whole = trial.seconds(full) * len(images) / size
    if whole * _STEPS_IN_BUDGET <= seconds:
        return len(images), whole
    fitting = int(len(images) * seconds / (whole * _STEPS_IN_BUDGET))
    return min(len(images), max(_SMALLEST_PART, fitting)), whole
