"""The verbs of one training step in any precision: forward, backward, step.

```python
precision = halftone.Precision("fp16", model, optimizer)
for images, labels in loader:
    with precision.forward():
        loss = criterion(model(images), labels)
    precision.backward(loss)
    outcome = precision.step()
```
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.errors import ModelFileError
from halftone.precision.apply import apply_seen, apply_unseen, takes_a_flag, waits_by_default
from halftone.precision.compute import Compute
from halftone.precision.config import LayerFormat, Mode, PrecisionConfig, lowered, uses_scaling
from halftone.precision.guard import BufferGuard
from halftone.precision.scaling import LossScale


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What an optimizer step came to."""

    applied: bool | Tensor
    """False if the gradients were not finite and the step was skipped. Where `Precision.waits` is false, a truth value
    [] on the device; to ask whether it is true is to wait."""
    grad_norm: Tensor | None
    """The norm of all gradients before clipping, [] on the device; None unless it was asked for."""


class Precision:
    """Precision for a training loop: autocast, loss scaling, clipping, and no step on gradients that are not finite.

    A skipped step leaves the parameters, the optimizer's state and the network's buffers as they were, to the bit.
    """

    def __init__(
        self,
        mode: Mode | PrecisionConfig,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        measure_norm: bool = False,
        waits: bool | None = None,
    ) -> None:
        """Prepare the verbs.

        Args:
            mode: a format, or a configuration with formats of single layers and the constants of loss scaling; its
                mode must be decided.
            model: the network, on its device. Layers with a format of their own are marked on it.
            optimizer: over its parameters, all on one device. Those that are added later are noticed.
            clip_norm: scale the gradients down to this norm where they exceed it.
            measure_norm: report the norm of the gradients even without clipping.
            waits: whether `step` reads the norm before it updates, or leaves the decision to the device and returns at
                once. Without it, reads on the CPU and not on a GPU. An optimizer that takes no flag (RMSprop, NAdam,
                those that are not fused) makes it wait in any case.

        Raises:
            ValueError: the mode is `auto`, the norm is not positive, or the mode is fp16 and so are the parameters.
            RecipeError: an entry of `layers` matches no layer, or the mode is fp8 and nothing can be converted.
            ResourceError: the mode is fp8, and the device or torchao is missing.
        """
        config = mode if isinstance(mode, PrecisionConfig) else PrecisionConfig(mode=mode)
        if config.mode == "auto":
            raise ValueError("precision 'auto' is decided by a plan; name a format here")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm = {clip_norm}: it must be above zero; without clipping it is None")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if lowered(config.mode) == "fp16" and any(parameter.dtype == torch.float16 for parameter in parameters):
            raise ValueError(
                f"precision '{config.mode}' lowers in the forward pass; keep the parameters themselves in float32"
            )
        self.mode: Mode = config.mode
        self._optimizer = optimizer
        self._device = parameters[0].device
        self._compute = Compute(config, model, self._device)
        self._scaling = LossScale(config, self._device) if uses_scaling(config) else None
        self._guard = BufferGuard(model)
        self._clip_norm = clip_norm
        self._reports_norm = measure_norm or clip_norm is not None
        wanted = waits_by_default(self._device) if waits is None else waits
        self._must_wait = wanted or not takes_a_flag(optimizer)
        self.waits = self._must_wait
        """Whether `step` reads the norm of the gradients, and so waits for the device."""

    @property
    def scale(self) -> Tensor | None:
        """The loss scale, [] on the device, or None where the loss is not scaled. A later step leaves it as it is."""
        return None if self._scaling is None else self._scaling.scale

    @property
    def layers(self) -> dict[str, LayerFormat]:
        """The layers that compute in a format of their own, by name."""
        return self._compute.layers

    def wait(self, needed: bool) -> None:
        """Let `step` wait for the device from now on, or only if it must anyway."""
        self.waits = needed or self._must_wait

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context in which the network and the loss compute."""
        self._guard.remember()
        if self._compute.halves is not None:
            self._compute.halves.refresh()
        return self._compute.forward()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, [], scaled where the format needs it."""
        if self._scaling is not None:
            loss = loss * self._scaling.scale
        with self._compute.backward():
            loss.backward()
        if self._compute.halves is not None:
            self._compute.halves.hand_over_gradients()

    def take_back(self) -> None:
        """Undo the passes since the last step, which failed: clear their gradients and put the buffers back."""
        self._guard.put_back()
        self._guard.forget()
        if self._compute.halves is not None:
            self._compute.halves.drop_gradients()
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> StepOutcome:
        """Update the parameters from the gathered gradients and clear these; skip if their norm is not finite.

        Raises:
            RuntimeError: no parameter has a gradient.
        """
        parameters, gradients = self._gradients()
        norm = _total_norm(gradients)
        if self._scaling is not None:
            norm = norm / self._scaling.scale
        apply = apply_seen if self.waits else apply_unseen
        applied = apply(self._optimizer, gradients, norm, scale=self.scale, clip_norm=self._clip_norm)
        if applied is not True:
            self._guard.put_back(unless=applied)
        self._guard.forget()
        if self._compute.halves is not None:
            self._compute.halves.forget()
        if self._scaling is not None:
            self._scaling.update(applied=applied)
        for parameter in parameters:  # what zero_grad() does, without its overhead
            parameter.grad = None
        return StepOutcome(applied, norm if self._reports_norm else None)

    def _gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters that have a gradient, and these."""
        found = [
            (parameter, gradient)
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if (gradient := parameter.grad) is not None
        ]
        if not found:
            raise RuntimeError("no parameter has a gradient: call backward() before step()")
        parameters, gradients = zip(*found, strict=True)
        return list(parameters), list(gradients)

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved to go on exactly: the loss scale's state."""
        return {} if self._scaling is None else {"scaling": self._scaling.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ModelFileError: it was saved in another mode, or its loss scale is unusable.
        """
        if self._scaling is None:
            return
        if "scaling" not in state:
            raise ModelFileError("the checkpoint holds no loss scale: it was not saved in the mode fp16")
        self._scaling.load_state_dict(state["scaling"])


def _total_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients as one vector, [], in one pass over the memory.

    It is infinite or not a number if any gradient is, so it serves as the check of these, too. That of finite
    gradients is infinite beyond 1.8e19, where the squares overflow: no step is wanted there, either.
    """
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
