"""Small networks for small pictures."""

import re

from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.models.plain import build_plain, is_plain
from halftone.models.speednet import NAME as SPEEDNET
from halftone.models.speednet import SpeedNet

WIDTHS = {1: (48, 96, 192), 3: (64, 128, 256)}
"""Channels of the plain network's three blocks, for gray and for colour pictures: there is less to tell without it."""
TINY_SIDE = 16
"""Pictures of fewer pixels a side hold so little that half the channels suffice, and fewer passes over them."""
_DEEPEST = 1202
"""He et al. 2016, table 6; deeper ones take minutes to build and train to nothing better."""


def is_small(name: str) -> bool:
    """Tell whether a name means one of these networks, possibly of a depth that does not exist."""
    return name in ("cnn", SPEEDNET) or is_plain(name) or re.fullmatch(r"cifar_resnet\d*", name) is not None


def build_small(name: str, *, num_classes: int, channels: int, size: int, dropout: float) -> nn.Module:
    """Build a network by its name, for which `is_small` holds.

    Raises:
        RecipeError: a network of a depth or an activation that does not exist.
    """
    if name == "cnn":
        return PlainCNN(num_classes, channels, size, dropout)
    if name == SPEEDNET:
        return SpeedNet(num_classes, channels, size, dropout)
    if is_plain(name):
        return build_plain(name, num_classes=num_classes, channels=channels, size=size, dropout=dropout)
    digits = name.removeprefix("cifar_resnet")
    depth = int(digits) if 0 < len(digits) < 6 else 20
    near = min(max(8, 6 * round((depth - 2) / 6) + 2), _DEEPEST)
    if digits != str(near):
        raise RecipeError(
            f"model = '{name}': the depth is 6n + 2, such as 20, 32, 44, 56 or 110, and at most {_DEEPEST}",
            hint=f"cifar_resnet{near}",
        )
    return CifarResNet(depth, num_classes, channels, dropout)


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size; its bias is left to the normalisation behind it."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class PlainCNN(nn.Module):
    """Three blocks of two convolutions, each halving the picture, and a linear head on the largest responses.

    Pictures of 24 pixels or more are halved in each block; smaller ones only as often as three pixels a side
    remain, so that the digits of 8 pixels are not pooled away.
    """

    def __init__(self, num_classes: int, channels: int, size: int, dropout: float = 0.0) -> None:
        """Build for square pictures of `size` pixels with 1 or 3 channels."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        inputs = 32
        blocks = []
        share = 2 if size < TINY_SIDE else 1
        for width in (channels // share for channels in WIDTHS[channels]):
            halve = size >= 6
            size = size // 2 if halve else size
            blocks.append(self._block(inputs, width, halve=halve))
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)

    @staticmethod
    def _block(inputs: int, outputs: int, *, halve: bool) -> nn.Sequential:
        return nn.Sequential(
            convolution(inputs, outputs),
            nn.MaxPool2d(2) if halve else nn.Identity(),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            convolution(outputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, height, width]."""
        features = self.pool(self.blocks(self.stem(images))).flatten(1)
        return self.head(self.dropout(features))


class _Residual(nn.Module):
    """Two convolutions beside a shortcut; where the size changes the shortcut is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, images: Tensor) -> Tensor:
        inner = self.act(self.norm1(self.conv1(images)))
        return self.act(self.norm2(self.conv2(inner)) + self.shortcut(images))


class CifarResNet(nn.Module):
    """The residual network for CIFAR of He et al. 2016, section 4.2, of any depth 6n + 2, with projection shortcuts."""

    def __init__(self, depth: int, num_classes: int, channels: int, dropout: float = 0.0) -> None:
        """Build with (depth - 2) / 6 blocks in each of three stages of 16, 32 and 64 channels."""
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(convolution(channels, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = self._stage(16, 16, blocks, stride=1)
        self.stage2 = self._stage(16, 32, blocks, stride=2)
        self.stage3 = self._stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
        first = _Residual(inputs, outputs, stride)
        return nn.Sequential(first, *(_Residual(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, height, width]."""
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.head(self.dropout(self.pool(features).flatten(1)))
