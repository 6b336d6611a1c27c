"""What can be asked of precision."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from halftone.base.records import Auto, Record

Mode = Literal["fp32", "tf32", "bf16", "fp16"]
MODES: tuple[Mode, ...] = ("fp32", "tf32", "bf16", "fp16")

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
    "bfloat16": "bf16",
    "bf16-mixed": "bf16",
}
"""Names that people know from elsewhere."""


class PrecisionConfig(Record):
    """The number format of training, and the constants of loss scaling."""

    shorthand = "mode"

    mode: Mode | Auto = "auto"
    """`fp32`, `tf32` (fp32 with matrix products rounded to 10 bits), `bf16` or `fp16` (both by autocast)."""
    scale: float = Field(default=65536.0, gt=0)
    """fp16: the first loss scale."""
    scale_growth: float = Field(default=2.0, gt=1)
    """fp16: factor after a stretch of finite steps."""
    scale_backoff: float = Field(default=0.5, gt=0, lt=1)
    """fp16: factor after a step with infinite gradients, which is skipped."""
    scale_interval: int = Field(default=2000, ge=1)
    """fp16: finite steps in a row before the scale grows."""
    scale_floor: float = Field(default=2.0**-10, ge=2.0**-24)
    """fp16: the scale never falls below this."""
    scale_cap: float = Field(default=2.0**24, le=2.0**32)
    """fp16: the scale never grows above this."""
    max_skipped: int = Field(default=32, ge=1)
    """Steps in a row that may be skipped, in any format, before training stops as diverged."""

    @field_validator("mode", mode="before")
    @classmethod
    def _aliases(cls, value: Any) -> Any:
        name = str(value).lower()
        return ALIASES.get(name, name if isinstance(value, str) else value)

    @model_validator(mode="after")
    def _scale_within_limits(self) -> "PrecisionConfig":
        if not self.scale_floor <= self.scale <= self.scale_cap:
            raise ValueError(
                f"scale = {self.scale:g} must lie between "
                f"scale_floor = {self.scale_floor:g} and scale_cap = {self.scale_cap:g}"
            )
        return self
