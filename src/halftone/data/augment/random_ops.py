"""TrivialAugment (Mueller and Hutter 2021) and RandAugment (Cubuk et al. 2020), on whole batches.

Both draw from one list of operations. Strengths follow the papers as torchvision has them: the wide ranges for
TrivialAugment, the narrow ones for RandAugment. Here, pixels from outside of the picture are its mirror image.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halftone.data.augment import colour, geometry

Floats = geometry.Floats
_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_ENHANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": colour.brightness,
    "colour": colour.saturation,
    "contrast": colour.contrast,
    "sharpness": colour.sharpness,
}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": colour.autocontrast,
    "equalize": colour.equalize,
}
OPERATIONS = ("identity", *_GEOMETRIC, *_ENHANCE, "posterize", "solarize", *_PLAIN)


def trivial_augment(images: Tensor, random: np.random.Generator) -> Tensor:
    """Apply one operation of random strength to each image, [batch, channels, height, width] in [0, 1]."""
    return _apply(images, random, random.uniform(0, 1, len(images)), wide=True)


def rand_augment(images: Tensor, random: np.random.Generator, *, num_ops: int, magnitude: float) -> Tensor:
    """Apply several operations of one strength, a share of the largest, to each image."""
    for _ in range(num_ops):
        images = _apply(images, random, np.full(len(images), magnitude), wide=False)
    return images


def _apply(images: Tensor, random: np.random.Generator, strength: Floats, *, wide: bool) -> Tensor:
    """Draw an operation per image and apply each to its share of the batch; `strength` is in [0, 1]."""
    chosen = random.integers(len(OPERATIONS), size=len(images))
    sign = random.choice([-1.0, 1.0], size=len(images))
    groups = {name: np.flatnonzero(chosen == number) for number, name in enumerate(OPERATIONS)}
    moved = np.concatenate([groups[name] for name in _GEOMETRIC])
    images = images.clone()
    if len(moved):
        maps = _maps(groups, strength, sign, images.shape[-1], wide=wide)
        _replace(images, moved, lambda part: geometry.warp(part, maps[moved]))
    for name, enhance in _ENHANCE.items():
        rows = groups[name]
        factor = _tensor(1 + sign[rows] * strength[rows] * (0.99 if wide else 0.9), images)
        _replace(images, rows, partial(_with_amount, enhance, factor))
    rows = groups["posterize"]
    bits = _tensor(8 - np.round(strength[rows] * (6 if wide else 4)), images)
    _replace(images, rows, partial(_with_amount, colour.posterize, bits))
    rows = groups["solarize"]
    threshold = _tensor(1 - strength[rows], images)
    _replace(images, rows, partial(_with_amount, colour.solarize, threshold))
    for name, change in _PLAIN.items():
        _replace(images, groups[name], change)
    return images


def _with_amount(change: Callable[[Tensor, Tensor], Tensor], amount: Tensor, images: Tensor) -> Tensor:
    return change(images, amount)


def _replace(images: Tensor, rows: Any, change: Callable[[Tensor], Tensor]) -> None:
    """Change some images of the batch in place."""
    if len(rows):
        index = torch.from_numpy(rows).to(images.device, non_blocking=True)
        images[index] = change(images[index])


def _maps(groups: dict[str, Any], strength: Floats, sign: Floats, side: int, *, wide: bool) -> Floats:
    """Return an affine map per image of the batch; those without a geometric operation stay as they are."""
    amount = strength * sign
    largest_shift = 32 / side if wide else 150 / 331
    maps = geometry.identity(len(strength))
    none = np.zeros(len(strength))
    tangent = amount * (0.99 if wide else 0.3)
    shift = np.clip(amount * largest_shift, -0.5, 0.5)
    every = {
        "shear_x": lambda rows: geometry.shear(tangent[rows], none[rows]),
        "shear_y": lambda rows: geometry.shear(none[rows], tangent[rows]),
        "translate_x": lambda rows: geometry.translation(shift[rows], none[rows]),
        "translate_y": lambda rows: geometry.translation(none[rows], shift[rows]),
        "rotate": lambda rows: geometry.rotation(amount[rows] * (135 if wide else 30)),
    }
    for name, make in every.items():
        maps[groups[name]] = make(groups[name])
    return maps


def _tensor(values: Floats, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(like.device, non_blocking=True)
