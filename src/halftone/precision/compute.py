"""How a network computes: the contexts of its forward and backward pass, and the layers that go their own way."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from halftone.base.records import decided
from halftone.precision.config import LayerFormat, Mode, PrecisionConfig
from halftone.precision.emulate import Rehearsal
from halftone.precision.formats import autocast, autocast_dtype, float32_arithmetic, together
from halftone.precision.fp8 import convert_to_fp8
from halftone.precision.large_linear import spare_memory
from halftone.precision.master import HalfWeights, halve
from halftone.precision.policy import apply_policy, within


class Compute:
    """The arithmetic of a network in training."""

    def __init__(self, config: PrecisionConfig, model: nn.Module, device: torch.device) -> None:
        """Prepare the network: the formats of its layers, its half weights.

        Raises:
            RecipeError: an entry of `layers` matches nothing, or nothing can be converted to fp8.
            ResourceError: fp8 is not to be had here.
        """
        assert config.mode != "auto"
        self.mode: Mode = config.mode
        self.layers: dict[str, LayerFormat] = apply_policy(model, config.layers)
        if config.mode in ("bf16", "fp16") and not config.emulate:
            spare_memory(model)
        self.halves: HalfWeights | None = None
        self._device_type = device.type
        self._rehearsal = Rehearsal(config.emulate) if config.emulate else None
        if config.mode == "fp8":
            convert_to_fp8(model, device, keep=self.layers)
        if config.mode.endswith("-true"):
            dtype = autocast_dtype(config.mode)
            assert dtype is not None
            keep = set(within(model, self.layers, "fp32"))
            if config.master:
                self.halves = HalfWeights(model, dtype, keep=keep)
            else:
                halve(model, dtype, keep=keep)

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass and its loss."""
        cast = autocast(self._device_type, self.mode)
        if self.halves is None and self._rehearsal is None:
            return cast
        halves = nullcontext() if self.halves is None else self.halves.in_place()
        return together(halves, cast, self._rehearsal or nullcontext())

    def backward(self) -> AbstractContextManager[Any]:
        """Return the context of a backward pass."""
        if self._device_type == "cuda":
            return together(float32_arithmetic(self.mode), self._rehearsal or nullcontext())
        return self._rehearsal or nullcontext()


def evaluating(config: PrecisionConfig, device_type: str) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in evaluation, by `evaluation_config`; layers keep their own formats."""
    cast = autocast(device_type, decided(config.mode))
    return cast if config.emulate is None else together(cast, Rehearsal(config.emulate))
