"""What can be asked of the starting weights and of their care."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from halftone.base.lengths import Length, Span, parse_span, written_spans
from halftone.base.pairs import parse_pairs, parse_span_pairs
from halftone.base.records import Auto, Record


def _patterns(value: Any) -> Any:
    if value in (None, False, "none", "off", ""):
        return ()
    if isinstance(value, int):
        return (str(value),)
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _times(value: Any) -> Any:
    """Read a length, or lengths by pattern, as text or as a mapping."""
    if value in (None, False, "none", "off", ""):
        return None
    if isinstance(value, str) and "=" in value:
        value = parse_pairs(value, example="layer4=1ep")
    return {name: parse_span(span) for name, span in value.items()} if isinstance(value, dict) else parse_span(value)


def _times_by_pattern(value: Any) -> Any:
    """Read lengths by pattern, as text or as a mapping."""
    return parse_span_pairs(value, example="stem.bias=3ep")


def _written(value: Span | dict[str, Span] | None) -> str | dict[str, str] | None:
    if isinstance(value, dict):
        return written_spans(value)
    return None if value is None else str(value)


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
    unfreeze: Annotated[
        Span | dict[str, Span] | None,
        BeforeValidator(_times),
        PlainSerializer(_written),
        WithJsonSchema({"type": ["string", "object", "null"]}),
    ] = None
    """When frozen layers thaw: a length (`1ep`) thaws one stage after each such stretch, from the head down; pairs
    (`layer4=1ep,layer3=3ep`) thaw layers by name pattern. Without `freeze`, all but the head are frozen first."""
    unfreeze_warmup: Length = Span(5, "%")
    """How long the rate of layers that thaw rises from zero."""
    freeze_after: Annotated[
        dict[str, Span],
        BeforeValidator(_times_by_pattern),
        PlainSerializer(_written),
        WithJsonSchema({"type": ["string", "object"]}),
    ] = Field(default_factory=dict)
    """When layers stop training, by name pattern: `stem.bias=3ep`. Until then their rate falls to zero in a straight
    line, where the schedule is not below it; then they stand still like frozen ones."""

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


Scheme = Literal[
    "default",
    "normal",
    "uniform",
    "truncated-normal",
    "xavier-normal",
    "xavier-uniform",
    "he-normal",
    "he-uniform",
    "lecun-normal",
    "lecun-uniform",
    "orthogonal",
    "dirac",
    "dirac-first",
    "zeros",
    "lsuv",
]
Fan = Literal["in", "out"]
SCHEME_ALIASES: dict[str, Scheme] = {
    "he": "he-normal",
    "kaiming": "he-normal",
    "kaiming-normal": "he-normal",
    "kaiming-uniform": "he-uniform",
    "xavier": "xavier-uniform",
    "glorot": "xavier-uniform",
    "glorot-normal": "xavier-normal",
    "glorot-uniform": "xavier-uniform",
    "lecun": "lecun-normal",
    "trunc-normal": "truncated-normal",
    "zero": "zeros",
}
"""Names that people know from elsewhere."""
TAKES_STD: tuple[Scheme, ...] = ("normal", "uniform", "truncated-normal")
TAKES_FAN: tuple[Scheme, ...] = ("he-normal", "he-uniform", "lecun-normal", "lecun-uniform")
TAKES_GAIN: tuple[Scheme, ...] = (*TAKES_FAN, "xavier-normal", "xavier-uniform", "orthogonal")


def scheme_named(name: Any) -> Any:
    """Return the scheme that a name means, under its own name; what is no scheme comes back as it is."""
    lowered = name.lower().replace("_", "-") if isinstance(name, str) else name
    return SCHEME_ALIASES.get(lowered, lowered) if isinstance(lowered, str) else name


def _schemes_of_layers(value: Any) -> Any:
    pairs = parse_pairs(value, example="head=zeros") if isinstance(value, str) else value
    return {layer: scheme_named(name) for layer, name in pairs.items()} if isinstance(pairs, dict) else pairs


class InitConfig(Record):
    """How fresh weights begin. Weights that are loaded win over it."""

    shorthand = "scheme"

    scheme: Annotated[Scheme, BeforeValidator(scheme_named)] = "default"
    """`default` (what the network brings), `normal`, `uniform`, `truncated-normal`, `xavier-normal`, `xavier-uniform`,
    `he-normal`, `he-uniform`, `lecun-normal`, `lecun-uniform`, `orthogonal`, `dirac`, `dirac-first`, `zeros`, or `lsuv`
    (orthogonal, then scaled on training images). `he` is he-normal, `xavier` is xavier-uniform. Biases begin at zero,
    norms as the network brings them."""
    layers: Annotated[dict[str, Scheme], BeforeValidator(_schemes_of_layers)] = Field(default_factory=dict)
    """Layers with a scheme of their own, by name pattern or by kind: `head=zeros,layer4.*=orthogonal`. The kinds are
    convolution, depthwise, linear, stem and head; what comes later wins."""
    std: float | None = Field(default=None, gt=0)
    """Standard deviation of normal, uniform and truncated-normal. Without it 0.01, and 0.02 for truncated-normal."""
    fan: Fan = "in"
    """What he and lecun keep the variance of: `in` for activations, `out` for gradients."""
    gain: Annotated[float, Field(gt=0)] | Auto | None = None
    """Factor on xavier, he, lecun and orthogonal; `auto` takes it from the activation that follows each layer. Without
    it the scheme's own: the square root of 2 for he, else 1."""
    zero_gamma: bool = False
    """Let residual branches begin at zero: the weight of the last norm of each."""
    whiten: bool = False
    """Let the first convolution whiten the patches of the training images."""

    @model_validator(mode="after")
    def _all_is_used(self) -> "InitConfig":
        used = {self.scheme, *self.layers.values()}
        for setting, takers in (("std", TAKES_STD), ("fan", TAKES_FAN), ("gain", TAKES_GAIN)):
            value = getattr(self, setting)
            if value != type(self).model_fields[setting].default and not used.intersection(takers):
                raise ValueError(f"{setting} = {value} is for {', '.join(takers)}; none of these was chosen")
        return self
