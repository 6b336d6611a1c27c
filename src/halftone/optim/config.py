"""What can be asked of the optimizer and of the penalties on weights."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from halftone.base.pairs import parse_pairs
from halftone.base.records import Auto, Record

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "nadam", "muon"]


def _factors(value: Any) -> Any:
    return parse_pairs(value, example="features.0.*=0.1") if isinstance(value, str) else value


class OptimizerConfig(Record):
    """Which optimizer, and its constants."""

    shorthand = "name"

    name: OptimizerName | Auto = "auto"
    """`sgd` (Nesterov), `adam`, `adamw`, `rmsprop`, `nadam` or `muon` (matrices and filters; `rest` for the others)."""
    lr: Annotated[float, Field(gt=0, le=1e6)] | Auto = "auto"
    """The peak learning rate. auto: by rule, checked against a measured range of rates."""
    lr_scaling: Literal["off", "linear", "sqrt"] = "off"
    """How `lr` follows the batch: it is meant for `lr_batch` images, and grows with the batch (linear: Goyal et al.
    2017; sqrt: Hoffer et al. 2017)."""
    lr_batch: int = Field(default=256, ge=1)
    """The batch size that `lr` is meant for, where it is scaled."""
    probe_seconds: float = Field(default=20.0, ge=0)
    """What may be spent on measuring rates, where lr or the warmup is auto; half of it on a GPU. 0 measures nothing."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """sgd, rmsprop and muon."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """The adam family: memory of the gradient."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """The adam family: memory of its square."""
    l2: Annotated[float, Field(ge=0, le=10)] | Auto = "auto"
    """Weight decay: L2 in sgd, adam and rmsprop, decoupled in adamw, nadam and muon."""
    l1: float = Field(default=0.0, ge=0, le=10)
    """Penalty on the sum of absolute weights, added to the gradient as its sign."""
    decay_all: bool = False
    """Apply L1 and L2 to norms and biases, too, which are exempt otherwise."""
    head_lr: float = Field(default=1.0, gt=0, le=1000)
    """Factor on the rate of the head, for transfer learning."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the rate from each stage of the network to the one before it: 0.65 gives the first layers of a trained
    network small rates (Howard and Ruder 2018, section 3.2; Clark et al. 2020)."""
    layer_lr: Annotated[dict[str, Annotated[float, Field(ge=0, le=1000)]], BeforeValidator(_factors)] = Field(
        default_factory=dict
    )
    """Factors on the rate of single layers, by name pattern: `features.0.*=0.1`. They multiply."""
    layer_l2: Annotated[dict[str, Annotated[float, Field(ge=0, le=1e4)]], BeforeValidator(_factors)] = Field(
        default_factory=dict
    )
    """Factors on `l2` for single layers, by name pattern: `head=0.1`. They multiply."""
    iterations: int = Field(default=5, ge=1, le=20)
    """muon: Newton-Schulz iterations of an update; fewer are faster and leave the singular values further from one."""
    update_size: Literal["rms", "spectral"] = "rms"
    """muon: what the rate is a share of. `rms`: an update has the root mean square of AdamW's (Liu et al. 2025);
    `spectral`: its singular values are near the rate, times sqrt(rows / columns) for tall matrices (Jordan et al.
    2024)."""
    normalise: bool = False
    """muon: before each update, scale a matrix or filter to a norm of sqrt(rows). For weights that a normalisation
    follows."""
    rest: Literal["adamw", "sgd"] = "adamw"
    """muon: what updates what is not a matrix or filter; `sgd` is that with Nesterov momentum, its decay being L2."""
    rest_lr: Annotated[float, Field(gt=0, le=1e4)] | Auto = "auto"
    """muon: the rate of the rest."""
    rest_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """muon with sgd for the rest: the momentum of the rest. Without it, that of muon."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Scale the gradients down to this norm where they exceed it."""

    @model_validator(mode="after")
    def _all_is_used(self) -> "OptimizerConfig":
        """Refuse settings of Muon beside another optimizer: they would change nothing."""
        for setting in ("iterations", "update_size", "normalise", "rest", "rest_momentum"):
            value = getattr(self, setting)
            if value != type(self).model_fields[setting].default and self.name != "muon":
                raise ValueError(f"{setting} = {value} is for optimizer.name = muon, not {self.name}")
        own_scale = self.normalise or self.update_size == "spectral"
        if own_scale and self.lr == "auto":
            raise ValueError("lr = auto is for updates of the size rms, of weights that are not normalised: give lr")
        if self.rest_momentum is not None and self.rest != "sgd":
            raise ValueError(f"rest_momentum = {self.rest_momentum:g} is for rest = sgd, not {self.rest}")
        return self


class LossConfig(Record):
    """What the training loss makes of the labels."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of each label that is spread over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its frequency."""
