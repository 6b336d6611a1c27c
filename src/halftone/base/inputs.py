"""What a network expects of a picture: the one fact that data, models and weight files share."""

from typing import Literal

from pydantic import Field

from halftone.base.records import Record

Interpolation = Literal["bilinear", "bicubic", "nearest"]


class InputSpec(Record):
    """How a decoded picture becomes the input of a network, in training, evaluation and prediction alike."""

    size: int = Field(ge=1, le=4096)
    """Height and width in pixels."""
    channels: Literal[1, 3] = 3
    """1 for gray, 3 for RGB."""
    mean: tuple[float, ...]
    """Subtracted from each channel, for pixels in [0, 1]."""
    std: tuple[float, ...]
    """Divides each channel, for pixels in [0, 1]."""
    interpolation: Interpolation = "bilinear"
    """How pictures are resized; always with antialiasing."""
    fit: Literal["crop", "squash"] = "crop"
    """`crop` keeps the shape and cuts the middle out, `squash` uses every pixel and ignores the shape."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """The share of the shorter side that the middle crop covers."""
