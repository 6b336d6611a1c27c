"""What can be asked of the network."""

from typing import Annotated

from pydantic import Field

from halftone.base.records import Auto, Record


class ModelConfig(Record):
    """Which network, and its few options."""

    shorthand = "name"

    name: str = "auto"
    """A built-in (`cnn`, `speednet`, `cifar_resnet20`), a torchvision name, `timm:NAME`, or your own
    `path/to/file.py:Class`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Probability of dropping a unit where the network has dropout layers; without it the network's own value."""
    channels_last: bool | Auto = "auto"
    """Keep the channels of a pixel side by side in memory."""
    compile: bool | Auto = False
    """Train with the network compiled by torch.compile: faster steps on many GPUs, seldom on a CPU, after a wait of
    seconds to minutes. auto: if a long run is measured to gain by it. Evaluation stays as it is."""
