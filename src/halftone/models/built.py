"""A network that was built, and what a network expects by nature."""

from dataclasses import dataclass

from torch import nn

from halftone.base.inputs import Interpolation


@dataclass(frozen=True, slots=True)
class Native:
    """The pictures that a named network was designed for."""

    size: int
    """Height and width in pixels."""
    fixed: bool = False
    """Whether it takes no other size."""
    smallest: int = 32
    """The smallest size that survives its downsampling."""
    mean: tuple[float, float, float] | None = None
    """What its published weights expect subtracted from pixels in [0, 1]; None if there are none."""
    std: tuple[float, float, float] | None = None
    """What they expect the pixels divided by."""
    crop: float = 0.875
    """The share of the shorter side that the middle crop covered when it was evaluated."""
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, slots=True)
class Built:
    """A network with an output for each class."""

    module: nn.Module
    head: tuple[str, ...]
    """Names of the layers whose shape depends on the number of classes."""
    stem: tuple[str, ...]
    """Names of the layers whose shape depends on the number of input channels."""
    auxiliary: float = 0.0
    """Weight in the training loss of outputs beside the main one (Inception, GoogLeNet); 0 if there are none."""
