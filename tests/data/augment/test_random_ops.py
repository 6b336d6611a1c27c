"""TrivialAugment and RandAugment: the operations and strengths of torchvision, drawn per image."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from halftone.data.augment import random_ops
from halftone.data.augment.random_ops import OPERATIONS, rand_augment, trivial_augment

NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}


class Fixed:
    """A generator of random numbers that always draws one operation with one sign."""

    def __init__(self, operation: str, sign: float) -> None:
        self.operation, self.sign = OPERATIONS.index(operation), sign

    def integers(self, _: int, *, size: int) -> Any:
        return np.full(size, self.operation)

    def choice(self, _: Any, *, size: int) -> Any:
        return np.full(size, self.sign)


def pictures(count: int = 4, channels: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 5, 5, generator=generator)
    grown = torch.nn.functional.interpolate(small, (side, side), mode="bilinear", align_corners=True)
    return ((grown * 255).round() / 255).contiguous(memory_format=torch.channels_last)


def test_the_operations_are_those_of_torchvision() -> None:
    assert {NAMES[name] for name in OPERATIONS} == set(v2.TrivialAugmentWide._AUGMENTATION_SPACE)
    assert {NAMES[name] for name in OPERATIONS} == set(v2.RandAugment._AUGMENTATION_SPACE)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_has_torchvisions_effect(operation: str, sign: float, wide: bool) -> None:
    """At strength 0.5, in the middle of the picture where no rule for the outside matters."""
    images = pictures()
    strength = np.full(4, 0.5)
    if wide and operation in ("translate_x", "translate_y", "rotate"):
        strength = np.full(4, 0.1)  # or else everything comes from outside
    found = random_ops._apply(images, Fixed(operation, sign), strength, wide=wide)  # type: ignore[arg-type]
    theirs = v2.TrivialAugmentWide() if wide else v2.RandAugment()
    amounts, signed = theirs._AUGMENTATION_SPACE[NAMES[operation]]
    values = amounts(1001, 32, 32)
    value = 0.0 if values is None else float(values[round(strength[0] * 1000)])
    if signed:
        value *= sign
    whole = (images * 255).round().to(torch.uint8)
    expected = theirs._apply_image_or_video_transform(
        whole if operation in ("posterize", "equalize") else images,
        NAMES[operation],
        value,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill={},
    )
    expected = expected / 255 if expected.dtype == torch.uint8 else expected
    assert found.is_contiguous(memory_format=torch.channels_last)
    if operation.startswith("shear"):  # torchvision slants about a corner, we about the middle
        maps = random_ops.geometry.shear(
            *((np.full(4, value), np.zeros(4)) if operation[-1] == "x" else (np.zeros(4), np.full(4, value)))
        )
        expected = random_ops.geometry.warp(images, maps)
    border = 12 if operation in random_ops._GEOMETRIC else 1
    middle = (..., slice(border, -border), slice(border, -border))
    error = (found[middle] - expected[middle]).abs()
    assert error.max() < (0.06 if operation.startswith("translate") else 2e-3)  # theirs are whole pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_draws_for_itself_and_the_same_draw_gives_the_same(channels: int) -> None:
    images = pictures(64, channels)
    before = images.clone()

    def drawn(seed: int) -> torch.Tensor:
        return trivial_augment(images, np.random.Generator(np.random.Philox(seed)))

    found = drawn(1)
    assert torch.equal(images, before)
    assert torch.equal(found, drawn(1))
    assert not torch.equal(found, drawn(2))
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.is_contiguous(memory_format=torch.channels_last)
    unchanged = (found - images).abs().amax((1, 2, 3)) == 0
    assert 1 <= unchanged.sum() < 32  # the identity among fourteen, and what does nothing to some picture


def test_rand_augment_applies_several_operations_of_one_strength() -> None:
    images = pictures(64)
    none = rand_augment(images, np.random.Generator(np.random.Philox(0)), num_ops=3, magnitude=0.0)
    changed = (none - images).abs().amax((1, 2, 3)) > 0.01
    assert changed.float().mean() < 0.7  # only autocontrast and equalize have no strength; solarize starts at white
    one = rand_augment(images, np.random.Generator(np.random.Philox(0)), num_ops=1, magnitude=1.0)
    three = rand_augment(images, np.random.Generator(np.random.Philox(0)), num_ops=3, magnitude=1.0)
    assert (three - images).abs().mean() > (one - images).abs().mean()
    assert three.is_contiguous(memory_format=torch.channels_last)
