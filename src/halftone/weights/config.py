"""What can be asked of the starting weights and of their care."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from halftone.base.lengths import Length, Span
from halftone.base.pairs import parse_pairs
from halftone.base.records import Record


def _patterns(value: Any) -> Any:
    if value in (None, False, "none", "off", ""):
        return ()
    if isinstance(value, int):
        return (str(value),)
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _times(value: Any) -> Any:
    if value in (None, False, "none", "off", ""):
        return None
    if isinstance(value, str) and "=" in value:
        return parse_pairs(value, example="layer4=1ep")
    return value


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
    """Layers that stand still: by name pattern (`features.0.*,stem*`), `backbone` for all but the head, or a number for
    that many stages from the pixels on."""
    unfreeze: Annotated[Length | dict[str, Length] | None, BeforeValidator(_times)] = None
    """When frozen layers thaw: a length (`1ep`) thaws one stage after each such stretch, from the head down; pairs
    (`layer4=1ep,layer3=3ep`) thaw layers by name pattern. Without `freeze`, all but the head are frozen first."""
    unfreeze_warmup: Length = Span(5, "%")
    """How long the rate of layers that thaw rises from zero."""

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
