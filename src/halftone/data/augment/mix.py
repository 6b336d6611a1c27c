"""Mixing two images and their labels: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mix:
    """How much of each to mix; 0 is off. With both on, each batch gets one of them, with equal chances."""

    mixup: float
    cutmix: float

    def __call__(self, images: Tensor, random: np.random.Generator) -> "tuple[Tensor, Tensor, float]":
        """Mix each image with another of the batch.

        Args:
            images: [batch, channels, height, width].
            random: where the draws come from.

        Returns:
            The mixed images, the position of each image's partner [batch], and the share of the first.
        """
        partner = torch.from_numpy(random.permutation(len(images))).to(images.device, non_blocking=True)
        use_cutmix = self.cutmix > 0 and (self.mixup == 0 or random.uniform() < 0.5)
        amount = self.cutmix if use_cutmix else self.mixup
        share = float(random.beta(amount, amount))
        if not use_cutmix:
            return torch.lerp(images[partner], images, share), partner, share
        height, width = images.shape[2:]
        middle_y, middle_x = int(random.integers(height)), int(random.integers(width))
        half = np.sqrt(1 - share) / 2
        top, bottom = max(0, round(middle_y - half * height)), min(height, round(middle_y + half * height))
        left, right = max(0, round(middle_x - half * width)), min(width, round(middle_x + half * width))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        return mixed, partner, 1 - (bottom - top) * (right - left) / (height * width)


def mixed_targets(labels: Tensor, partner: Tensor, share: float, num_classes: int) -> Tensor:
    """Return the label probabilities of mixed images, [batch, classes]."""
    targets = torch.zeros(len(labels), num_classes, device=labels.device)
    rows = torch.arange(len(labels), device=labels.device)
    targets[rows, labels] += share
    targets[rows, labels[partner]] += 1 - share
    return targets
