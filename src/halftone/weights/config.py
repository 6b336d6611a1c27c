"""What can be asked of the starting weights and of their care."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from halftone.base.records import Record


def _patterns(value: Any) -> Any:
    if value in (None, False, "none", "off", ""):
        return ()
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class WeightsConfig(Record):
    """Where the weights come from, and which of them stand still."""

    shorthand = "file"

    file: Path | None = None
    """Start from this file: safetensors, or a PyTorch file with nothing but tensors in it."""
    pretrained: bool = False
    """Start from the weights that the network's library publishes."""
    partial: bool = False
    """Accept a file that fits only in part."""
    freeze: Annotated[tuple[str, ...], BeforeValidator(_patterns)] = ()
    """Layers that stand still, by name pattern (`features.0.*,stem*`), or `backbone` for all but the head."""

    @model_validator(mode="after")
    def _one_origin(self) -> "WeightsConfig":
        if self.file is not None and self.pretrained:
            raise ValueError("choose one of weights.file and pretrained")
        return self


class AverageConfig(Record):
    """An exponential moving average of the weights (EMA), evaluated and saved in place of the last ones."""

    shorthand = "decay"

    decay: float = Field(default=0.0, ge=0, lt=1)
    """How much of the average stays in each step, such as 0.999; 0 is off."""
