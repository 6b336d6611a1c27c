"""The work of both sides: the same network, images, order, optimizer and loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import nn

CLASSES, SIZE, BATCHES, SEED = 10, 224, 4, 0
RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the claim."""

    build: Callable[[], nn.Module]
    batch: int
    limit: float = 1.0
    """The promised multiple of the raw loop's time, at most."""


NETWORKS: Mapping[str, Network] = {
    "resnet18": Network(partial(torchvision.models.resnet18, num_classes=CLASSES), 16, 0.9),
    "mobilenet_v3_small": Network(partial(torchvision.models.mobilenet_v3_small, num_classes=CLASSES), 32),
    "efficientnet_b0": Network(partial(torchvision.models.efficientnet_b0, num_classes=CLASSES), 8),
    "vgg11": Network(partial(torchvision.models.vgg11, num_classes=CLASSES), 8),
    "convnext_tiny": Network(partial(torchvision.models.convnext_tiny, num_classes=CLASSES), 8),
    "squeezenet1_1": Network(partial(torchvision.models.squeezenet1_1, num_classes=CLASSES), 16),
}


def build(name: str) -> nn.Module:
    """Return the untrained network, the same in every process."""
    torch.manual_seed(SEED)
    return NETWORKS[name].build().train()


def images(batch: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return random images [images, height, width, channels] and their labels."""
    shape = (batch * BATCHES, SIZE, SIZE, 3)
    pixels = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    return pixels, np.arange(len(pixels)) % CLASSES


def order(batch: int, batches: int) -> npt.NDArray[np.int64]:
    """Return which images come one after the other, the set again and again, [images in all]."""
    return np.arange(batches * batch) % (batch * BATCHES)


def set_dropout(network: nn.Module, kept: dict[nn.Module, float] | None = None) -> dict[nn.Module, float]:
    """Turn all dropout off, or back to what was returned; the two sides draw other numbers."""
    found = {layer: layer.p for layer in network.modules() if isinstance(getattr(layer, "p", None), float)}
    for layer in found:
        layer.p = 0.0 if kept is None else kept[layer]
    return found  # type: ignore[return-value]
