"""Loss scaling, dynamic or static (Micikevicius et al. 2018, section 3.2), with a floor and a cap.

The rule is that of `torch.amp.GradScaler`, which has neither: under gradients that stay infinite its scale falls
to zero, and the first finite step after that divides by it.
"""

from typing import Any

import torch
from torch import Tensor

from halftone.base.errors import ModelFileError
from halftone.precision.config import PrecisionConfig


class LossScale:
    """A factor on the loss that keeps small gradients inside of the format; it lives on the device."""

    def __init__(self, config: PrecisionConfig, device: torch.device) -> None:
        """Start from the configured scale."""
        self._config = config
        self.scale = torch.full((), config.scale, dtype=torch.float32, device=device)
        """[]; replaced by each update, never changed in place, so that whoever noted it keeps what was true then."""
        self._tracker = torch.zeros((), dtype=torch.int32, device=device)
        self._found = torch.zeros((), dtype=torch.float32, device=device)

    def update(self, *, applied: bool | Tensor) -> None:
        """Shrink after a step whose gradients were not finite, grow after a long stretch of finite ones.

        Args:
            applied: whether they were finite; a tensor [] on the device is not waited for.
        """
        config = self._config
        if config.scaling == "static":
            return
        scale = self.scale.clone()
        if isinstance(applied, Tensor):
            torch.logical_not(applied, out=self._found)
        else:
            self._found.fill_(not applied)
        torch._amp_update_scale_(
            scale, self._tracker, self._found, config.scale_growth, config.scale_backoff, config.scale_interval
        )
        self.scale = scale.clamp_(config.scale_floor, config.scale_cap)

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, and how many finite steps it has stood."""
        return {"scale": float(self.scale), "tracker": int(self._tracker)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, within the limits that are configured now.

        Raises:
            ModelFileError: the scale is zero, infinite or not a number.
        """
        config, scale = self._config, float(state["scale"])
        if not 0 < scale < float("inf"):
            raise ModelFileError(f"the checkpoint holds a loss scale of {scale}; it must be positive and finite")
        self.scale = torch.full_like(self.scale, min(max(scale, config.scale_floor), config.scale_cap))
        # torch grows the scale when the count equals the interval; a larger one would never do so
        self._tracker.fill_(min(max(int(state["tracker"]), 0), config.scale_interval - 1))
