"""What can be asked of precision."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from halftone.base.pairs import parse_pairs
from halftone.base.records import Auto, Record, decided

Mode = Literal["fp32", "tf32", "bf16", "fp16", "bf16-true", "fp16-true", "fp8"]
MODES: tuple[Mode, ...] = ("fp32", "tf32", "bf16", "fp16", "bf16-true", "fp16-true", "fp8")
LayerFormat = Literal["fp32", "bf16", "fp16"]
"""What a layer of its own can compute in."""
Emulated = Literal["tf32", "bf16", "fp16", "fp8-e4m3", "fp8-e5m2"]
"""Formats that can be rehearsed on hardware that lacks them."""
LayerKind = Literal["depthwise", "convolution", "linear", "norm", "attention", "activation", "softmax", "loss"]

_REHEARSED: dict[Emulated, Mode] = {
    "tf32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8-e4m3": "bf16",
    "fp8-e5m2": "bf16",
}
"""The mode whose operations a rehearsal rounds."""

ALIASES = {
    "32": "fp32",
    "float32": "fp32",
    "32-true": "fp32",
    "amp": "fp16",
    "16": "fp16",
    "half": "fp16",
    "float16": "fp16",
    "16-mixed": "fp16",
    "fp16-mixed": "fp16",
    "16-true": "fp16-true",
    "bfloat16": "bf16",
    "bf16-mixed": "bf16",
    "float8": "fp8",
}
"""Names that people know from elsewhere."""


class PrecisionConfig(Record):
    """The number format of training, layer by layer, and the constants of loss scaling."""

    shorthand = "mode"

    mode: Mode | Auto = "auto"
    """`fp32`, `tf32` (fp32 with matrix products rounded to 10 bits), `bf16` or `fp16` (both by autocast),
    `bf16-true` or `fp16-true` (weights and activations in half, fp32 master weights, norms in fp32), `fp8` (linear
    layers, on GPUs that have it)."""
    layers: dict[str, LayerFormat] = Field(default_factory=dict)
    """Layers with a format of their own, by name pattern or by kind: `depthwise=fp32,features.0.*=fp32`. The kinds
    are depthwise, convolution, linear, norm, attention, activation, softmax and loss; what comes later wins."""
    evaluation: Mode | Auto = "auto"
    """The mode of evaluation and prediction. Without it, that of training."""
    emulate: Emulated | None = None
    """Rehearse a format on hardware that lacks it: `fp16`, `bf16`, `fp8-e4m3`, `fp8-e5m2` or `tf32`. Results are
    rounded as there, sums are kept in fp32."""
    master: bool = True
    """bf16-true, fp16-true: keep fp32 master weights, which the optimizer updates."""
    probe_seconds: float = Field(default=20.0, ge=0)
    """What the plan may spend on measuring formats where the mode is auto; half of it on a GPU. 0 measures nothing."""
    scaling: Literal["dynamic", "static", "off"] | Auto = "auto"
    """Loss scaling: `dynamic`, `static` (always `scale`) or `off`. auto is dynamic in fp16 and off elsewhere."""
    scale: float = Field(default=65536.0, gt=0)
    """The first loss scale."""
    scale_growth: float = Field(default=2.0, gt=1)
    """Factor on the loss scale after a stretch of finite steps."""
    scale_backoff: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the loss scale after a step with infinite gradients, which is skipped."""
    scale_interval: int = Field(default=2000, ge=1)
    """Finite steps in a row before the loss scale grows."""
    scale_floor: float = Field(default=2.0**-10, ge=2.0**-24)
    """The loss scale never falls below this."""
    scale_cap: float = Field(default=2.0**24, le=2.0**32)
    """The loss scale never grows above this."""
    max_skipped: int = Field(default=32, ge=1)
    """Steps in a row that may be skipped, in any format, before training stops as diverged."""

    @field_validator("mode", "evaluation", mode="before")
    @classmethod
    def _aliases(cls, value: Any) -> Any:
        name = str(value).lower()
        return ALIASES.get(name, name if isinstance(value, str) else value)

    @field_validator("layers", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Read `depthwise=fp32,head=fp32`, the form of the command line."""
        if not isinstance(value, str):
            return value
        pairs = parse_pairs(value, example="depthwise=fp32")
        return {name: ALIASES.get(chosen.lower(), chosen.lower()) for name, chosen in pairs.items()}

    @model_validator(mode="before")
    @classmethod
    def _mode_of_rehearsal(cls, values: Any) -> Any:
        """A rehearsal brings its mode along: `emulate: fp16` alone means the mode fp16."""
        if (
            isinstance(values, dict)
            and values.get("emulate") in tuple(_REHEARSED)
            and values.get("mode", "auto") == "auto"
        ):
            return {**values, "mode": _REHEARSED[values["emulate"]]}
        return values

    @model_validator(mode="after")
    def _agrees(self) -> "PrecisionConfig":
        if not self.scale_floor <= self.scale <= self.scale_cap:
            raise ValueError(
                f"scale = {self.scale:g} must lie between "
                f"scale_floor = {self.scale_floor:g} and scale_cap = {self.scale_cap:g}"
            )
        if self.emulate is not None and self.mode != _REHEARSED[self.emulate]:
            raise ValueError(
                f"emulate = {self.emulate} rehearses the mode {_REHEARSED[self.emulate]}; mode = {self.mode} is another"
            )
        return self


def evaluation_config(config: PrecisionConfig) -> PrecisionConfig:
    """Return what evaluation and prediction compute in: half weights and fp8 are for training, where memory goes.

    A rehearsal holds there, too, unless another mode was asked for.
    """
    mode = lowered(decided(config.mode if config.evaluation == "auto" else config.evaluation))
    return PrecisionConfig(mode=mode, layers=config.layers, emulate=config.emulate if mode == config.mode else None)


def lowered(mode: Mode) -> Mode:
    """Return the mode of autocast beneath a mode: bf16 for bf16-true and fp8, fp16 for fp16-true."""
    beneath: dict[Mode, Mode] = {"bf16-true": "bf16", "fp16-true": "fp16", "fp8": "bf16"}
    return beneath.get(mode, mode)


def uses_scaling(config: PrecisionConfig) -> bool:
    """Tell whether the loss is scaled."""
    if config.scaling != "auto":
        return config.scaling != "off"
    return lowered(config.mode) == "fp16" or "fp16" in config.layers.values() if config.mode != "auto" else False
