"""The statistics of batch normalisation, measured anew for weights that never trained: those of an average."""

from collections.abc import Collection, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracked_norms(module: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """Yield the batch normalisations that keep statistics of their inputs, with their names."""
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None:
            yield name, layer


def measure_statistics(module: nn.Module, batches: Iterable[Tensor], *, layers: Collection[str]) -> None:
    """Let the named layers forget their statistics, and take the plain mean over some batches instead.

    As in Izmailov et al. 2018, "Averaging weights leads to wider optima", section 3.2. Only these layers are in
    training mode, so that dropout stays off, as in evaluation.

    Args:
        module: a network in evaluation mode; it is left in that mode.
        batches: inputs, [batch, channels, height, width]; each counts the same.
        layers: names of batch normalisations.
    """
    norms = [layer for name, layer in tracked_norms(module) if name in layers]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean
        layer.train()
    try:
        with torch.no_grad():
            for images in batches:
                module(images)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
