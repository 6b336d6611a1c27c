"""The training loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from halftone.optim.config import LossConfig


class Criterion:
    """Cross-entropy with label smoothing and class weights, over one output or several."""

    def __init__(
        self,
        config: LossConfig,
        *,
        class_weights: Tensor | None = None,
        auxiliary: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Prepare the loss.

        Args:
            config: settled.
            class_weights: [classes], mean one over the training set, or None.
            auxiliary: weight of the outputs beside the main one.
            dtype: to compute the loss in; without it, as autocast does: in fp32.
        """
        self._smoothing = config.label_smoothing
        self._weights = class_weights
        self._auxiliary = auxiliary
        self._dtype = dtype

    def __call__(self, outputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, [].

        Args:
            outputs: logits [batch, classes], or a tuple that begins with the main ones.
            targets: class numbers [batch] or probabilities [batch, classes].
        """
        if isinstance(outputs, Tensor):
            return self._loss(outputs, targets)
        main, *others = (output for output in outputs if output is not None)
        loss = self._loss(main, targets)
        for other in others:
            loss = loss + self._auxiliary * self._loss(other, targets)
        return loss

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._dtype is None:
            return self._entropy(logits, targets)
        with torch.autocast(logits.device.type, enabled=False):
            soft = targets.is_floating_point()
            return self._entropy(logits.to(self._dtype), targets.to(self._dtype) if soft else targets)

    def _entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        # divided by the number of images, not by the sum of their weights, so that parts of a batch add up
        weights = self._weights if self._dtype is None else self._weights.to(self._dtype)
        total = F.cross_entropy(logits, targets, weight=weights, label_smoothing=self._smoothing, reduction="sum")
        return total / len(logits)


def main_output(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the logits [batch, classes] of a network that may give several outputs."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return weights by inverse frequency, [classes], with mean one over the images; absent classes get zero."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    present = counts > 0
    weights = torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), torch.zeros_like(counts))
    return weights.float()
