"""Deep networks without normalisation and without shortcuts: their starting weights alone decide whether they learn."""

import re

from torch import Tensor, nn

from halftone.base.errors import RecipeError, closest

_NAME = re.compile(r"plain(\d*)(?:_(\w+))?")
_WIDTH = 32
_SHALLOWEST, _DEEPEST = 2, 200
_STAGES = 3
_SMALLEST = 12
"""Pictures of fewer pixels a side are not halved: with zeros around it, little would be left of a map of 3 pixels."""
_LARGEST_MAP = 8
"""Pixels a side that the head sees of each channel."""
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}


def is_plain(name: str) -> bool:
    """Tell whether a name means one of these networks, possibly of a depth or activation that does not exist."""
    return _NAME.fullmatch(name) is not None


def build_plain(name: str, *, num_classes: int, channels: int, size: int, dropout: float) -> nn.Module:
    """Build a network by its name, for which `is_plain` holds: `plain30`, `plain20_tanh`.

    Raises:
        RecipeError: there is no such depth or activation.
    """
    found = _NAME.fullmatch(name)
    assert found is not None
    digits, activation = found[1], found[2] or "relu"
    depth = int(digits) if 0 < len(digits) < 6 else 30
    near = min(max(_SHALLOWEST, depth), _DEEPEST)
    if digits != str(near):
        raise RecipeError(
            f"model = '{name}': the depth is a number of layers from {_SHALLOWEST} to {_DEEPEST}, such as 30",
            hint=f"plain{near}",
        )
    if activation not in _ACTIVATIONS:
        raise RecipeError(
            f"model = '{name}': the activation is one of {', '.join(_ACTIVATIONS)}",
            hint=closest(activation, _ACTIVATIONS) or f"plain{depth} has ReLU",
        )
    return PlainDeep(depth, num_classes, channels, size, activation=_ACTIVATIONS[activation], dropout=dropout)


class PlainDeep(nn.Module):
    """3x3 convolutions of 32 channels, each with an activation, and a linear head on all that they give.

    `depth` counts the layers with weights, the head included. The convolutions form three stages; where the picture
    has 12 pixels a side or more, a stage begins by halving it. The head sees at most 8 x 8 means of each channel.
    Weights are torch's own, biases begin at zero.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        channels: int,
        size: int,
        *,
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        """Build for square pictures of `size` pixels with 1 or 3 channels."""
        super().__init__()
        starts = {stage * (depth - 1) // _STAGES for stage in range(_STAGES)}
        layers: list[nn.Module] = []
        for number in range(depth - 1):
            halve = number in starts and size >= _SMALLEST
            size = -(-size // 2) if halve else size
            inputs = _WIDTH if number else channels
            convolution = nn.Conv2d(inputs, _WIDTH, 3, stride=2 if halve else 1, padding=1)
            layers.append(nn.Sequential(convolution, activation()))
        self.layers = nn.Sequential(*layers)
        side = min(size, _LARGEST_MAP)
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(_WIDTH * side**2, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, height, width]."""
        features = self.pool(self.layers(images)).flatten(1)
        return self.head(self.dropout(features))
