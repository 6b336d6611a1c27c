"""What can be asked of warmup and decay."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from halftone.base.lengths import Length, Span, parse_span
from halftone.base.records import Auto, Record

WarmupShape = Literal["linear", "exponential", "cosine", "constant", "adaptive"]
DecayShape = Literal[
    "cosine",
    "cosine-restarts",
    "one-cycle",
    "wsd",
    "linear",
    "polynomial",
    "step",
    "multistep",
    "exponential",
    "plateau",
    "constant",
]
CooldownShape = Literal["linear", "cosine", "sqrt"]
FIRST_SHARE = 0.01
"""Of the peak: where a warmup starts if nobody says otherwise."""


class WarmupConfig(Record):
    """How the rate rises to its peak."""

    shorthand = "length"

    length: Length | Auto = "auto"
    """`5ep`, `500it`, `5%` of the run, or `none`; counted in optimizer updates. auto: as long as it turns out to be
    needed, see the shape `adaptive`."""
    shape: WarmupShape | Auto = "auto"
    """The curve from the start to the end. `adaptive` rises while training is stable, holds or backs off when it is
    not, and may end early; the length is its limit. auto: adaptive where the length is auto, linear elsewhere."""
    start: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """The first rate, as a share of the peak. auto: 0.01; for `adaptive`, what a measurement finds stable."""
    end: float = Field(default=1.0, gt=0, le=1)
    """The last rate, as a share of the peak; below 1 the rate jumps to the peak when the warmup is over."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The first momentum (beta1 for the adam family), which moves in a straight line to its value until the warmup is
    over. Without it, momentum has no warmup."""
    bias: Annotated[float, Field(ge=0, le=100)] | None = None
    """The first rate of biases, as a share of the peak, from which it moves in a straight line to that of the rest.
    Without it, biases go with the rest."""

    @model_validator(mode="after")
    def _makes_sense(self) -> "WarmupConfig":
        if self.shape == "exponential" and self.start == 0:
            raise ValueError("an exponential warmup starts above zero: give warmup.start a value such as 0.01")
        if self.start != "auto" and self.start > self.end:
            raise ValueError(f"start = {self.start:g} is above end = {self.end:g}: a warmup rises")
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
    """The last rate, as a share of the peak; what falls by equal factors needs one above zero and takes 0.01 for 0
    (exponential), and one-cycle takes 4e-6."""
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
    cycle: Length = Span(25, "%")
    """cosine-restarts: the length of the first cycle, counted from the end of the warmup."""
    cycle_growth: int = Field(default=1, ge=1, le=100)
    """cosine-restarts: factor from the length of one cycle to that of the next."""
    cooldown: Length = Span(20, "%")
    """wsd (warmup, stable, decay): how long the rate falls at the end of the run."""
    cooldown_shape: CooldownShape = "sqrt"
    """wsd: how it falls; sqrt is 1 - sqrt(share of the cooldown)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The last momentum (beta1 for the adam family), to which it moves along half a cosine from the end of the warmup
    on. Without it, momentum stays."""

    @field_validator("every", "cycle", "cooldown")
    @classmethod
    def _some_steps(cls, length: Span) -> Span:
        if not length:
            raise ValueError("a length above zero, such as 30%, 10ep or 500it")
        return length
