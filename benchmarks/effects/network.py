"""A small convolutional network with small gradients: a mean over all pixels, and the output multiplier of muP."""

from torch import Tensor, nn


class SmallGradients(nn.Module):
    """Four convolutions, a mean over the picture, and logits times 1 / width (Yang et al. 2021, table 8).

    The mean over 1,024 pixels and over the batch, and the multiplier, make the gradients of single pixels smaller than
    what fp16 can hold, though not than what fp32 needs to train.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential()
        for before in (1, width, width, width):
            self.features.extend([nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()])
        self.head = nn.Linear(width, num_classes)
        self.multiplier = 1 / width

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] of gray images [batch, 1, height, width]."""
        return self.multiplier * self.head(self.features(images).mean((2, 3)))
