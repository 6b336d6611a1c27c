"""What can be asked of warmup and decay."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from halftone.base.lengths import Length, Span, parse_span
from halftone.base.records import Auto, Record

WarmupShape = Literal["linear", "exponential", "cosine", "constant"]
DecayShape = Literal["cosine", "linear", "polynomial", "step", "multistep", "exponential", "plateau", "constant"]


class WarmupConfig(Record):
    """How the rate rises to its peak."""

    shorthand = "length"

    length: Length | Auto = "auto"
    """`5ep`, `500it`, `5%` of the run, or `none`; counted in optimizer updates."""
    shape: WarmupShape = "linear"
    """The curve from the start to the peak."""
    start: float = Field(default=0.01, ge=0, le=1)
    """The first rate, as a share of the peak."""

    @model_validator(mode="after")
    def _exponential_starts_above_zero(self) -> "WarmupConfig":
        if self.shape == "exponential" and self.start == 0:
            raise ValueError("an exponential warmup starts above zero: give warmup.start a value such as 0.01")
        return self


def _spans(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(parse_span(part) for part in parts) if isinstance(parts, list | tuple) else value


class DecayConfig(Record):
    """How the rate falls after the warmup."""

    shorthand = "shape"

    shape: DecayShape = "cosine"
    """The curve from the peak to the end."""
    end: float = Field(default=0.0, ge=0, le=1)
    """The last rate, as a share of the peak (cosine, linear, polynomial; exponential: 0.01 if left at 0)."""
    power: float = Field(default=2.0, gt=0)
    """polynomial: the exponent."""
    every: Length = Span(30, "%")
    """step: how often the rate falls."""
    milestones: Annotated[tuple[Length, ...], BeforeValidator(_spans)] = (Span(50, "%"), Span(75, "%"))
    """multistep: when the rate falls, counted from the start of the run."""
    gamma: float = Field(default=0.1, gt=0, lt=1)
    """step, multistep and plateau: the factor by which it falls."""
    patience: int = Field(default=3, ge=0)
    """plateau: epochs without improvement that it bears; it falls in the next such one (as in torch)."""

    @field_validator("every")
    @classmethod
    def _some_steps(cls, every: Span) -> Span:
        if not every:
            raise ValueError("a length above zero, such as 30%, 10ep or 500it")
        return every
