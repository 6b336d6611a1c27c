"""In which precision a trained model is used: that of its training's evaluations, or another that was asked for."""

import torch

from halftone.base.records import decided
from halftone.precision.config import PrecisionConfig
from halftone.precision.formats import check_tf32, emulation
from halftone.run.model_file import ModelCard
from halftone.system.device import device_facts


def asked_mode(name: str, device: torch.device) -> PrecisionConfig:
    """Return what the name of a mode means where a trained model is used; auto is the model's own.

    Raises:
        RecipeError: there is no such mode, or the device cannot compute in it.
    """
    asked = PrecisionConfig.parse({"mode": name})
    check_tf32(asked.mode, device_facts(device), hint="use --precision fp32")
    return asked


def slow_notes(card: ModelCard, device: torch.device) -> tuple[str, ...]:
    """Say what slows a model down on a device."""
    cost = emulation(decided(card.precision.mode), device_facts(device))
    rehearsed = card.precision.emulate is not None
    return () if cost is None or rehearsed else (f"note: {cost} (--precision fp32 avoids it)",)
