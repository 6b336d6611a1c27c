"""The network of the fast CIFAR-10 training (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU")."""

from torch import Tensor, nn

NAME = "speednet"
_WIDTHS = (64, 256, 256)
"""Channels of the blocks (Jordan 2024, section 3.1)."""
_KERNEL = 2
"""Pixels a side that the first convolution sees."""
_FORGETTING = 0.4
"""Of the running statistics in each step, torch's `momentum`: a short run has few steps to find them in."""
_EPSILON = 1e-12
_SMALLEST = 6
"""Pictures of fewer pixels a side are not halved."""


class SpeedNet(nn.Module):
    """A first convolution made for whitening, three blocks of two convolutions, and a linear head without a bias.

    Each block halves the picture after its first convolution while enough of it is left. The first convolution has
    room for twice as many filters as a patch of 2 x 2 has numbers: the whitening ones with both signs, see
    `InitConfig.whiten`. The head begins so small that the logits do, too. Nothing is frozen and no start is chosen
    here: that is a recipe's part.
    """

    def __init__(self, num_classes: int, channels: int, size: int, dropout: float = 0.0) -> None:
        """Build for square pictures of `size` pixels with 1 or 3 channels."""
        super().__init__()
        inputs = 2 * channels * _KERNEL**2
        self.stem = nn.Conv2d(channels, inputs, _KERNEL)
        self.act = nn.GELU()
        size -= _KERNEL - 1
        blocks = []
        for width in _WIDTHS:
            halve = size >= _SMALLEST
            size = size // 2 if halve else size
            blocks.append(_Block(inputs, width, halve=halve))
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / inputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, height, width]."""
        features = self.pool(self.blocks(self.act(self.stem(images)))).flatten(1)
        return self.head(self.dropout(features))


class _Block(nn.Module):
    """Two convolutions, each with its norm and GELU; the picture is halved between the first and its norm."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.halve = nn.MaxPool2d(2) if halve else nn.Identity()
        self.norm1 = nn.BatchNorm2d(outputs, eps=_EPSILON, momentum=_FORGETTING)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, eps=_EPSILON, momentum=_FORGETTING)
        self.act = nn.GELU()

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(self.norm1(self.halve(self.conv1(images))))
        return self.act(self.norm2(self.conv2(features)))
