"""Counts over any number of batches. They add exactly, so parts, ranks and resumed runs need no special case."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_BINS = 15
"""Bins of confidence for the calibration error (Guo et al. 2017)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What became of each image of a batch; all [batch], on the device."""

    predicted: Tensor
    confidence: Tensor
    loss: Tensor


class Tally:
    """What an evaluation has seen so far; everything is on the device and nothing waits for it."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        """Start with nothing seen."""
        # MPS has no float64; sums of up to 2**24 samples are still exact enough in float32 there
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        """[true class, predicted class]."""
        self.loss_sum = torch.zeros((), dtype=exact, device=device)
        self.top5 = torch.zeros((), dtype=torch.int64, device=device)
        self.bin_correct = torch.zeros(NUM_BINS, dtype=torch.int64, device=device)
        self.bin_confidence = torch.zeros(NUM_BINS, dtype=exact, device=device)
        self._classes = num_classes
        self._bins = torch.arange(NUM_BINS, device=device)

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor) -> Scores:
        """Count one batch.

        Args:
            logits: [batch, classes], of any floating-point type.
            labels: class numbers [batch].

        Returns:
            The prediction, confidence and loss of each image.
        """
        logits = logits.float()
        losses = F.cross_entropy(logits, labels, reduction="none")
        confidence, predicted = logits.softmax(1).max(1)
        correct = predicted == labels
        # sums over one-hot rows: bincount and boolean masks would wait for a GPU
        self.confusion.view(-1).index_add_(0, labels * self._classes + predicted, torch.ones_like(labels))
        self.loss_sum += losses.sum(dtype=self.loss_sum.dtype)
        if self._classes > 5:
            self.top5 += (logits.topk(5).indices == labels[:, None]).sum()
        else:
            self.top5 += len(labels)
        bins = (confidence * NUM_BINS).long().clamp_(max=NUM_BINS - 1)[:, None] == self._bins
        self.bin_correct += (bins & correct[:, None]).sum(0)
        self.bin_confidence += (bins * confidence[:, None].to(self.bin_confidence.dtype)).sum(0)
        return Scores(predicted, confidence, losses)

    def merge(self, other: "Tally") -> None:
        """Add what another tally has seen."""
        for own, added in zip(self._counts(), other._counts(), strict=True):
            own.add_(added)

    def _counts(self) -> tuple[Tensor, ...]:
        return (self.confusion, self.loss_sum, self.top5, self.bin_correct, self.bin_confidence)
