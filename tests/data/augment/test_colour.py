"""Changing light and colour, against torchvision in floating point and Pillow in 8 bits."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from halftone.data.augment import colour

LAST = torch.channels_last


def batch(channels: int = 3, *, seed: int = 0, height: int = 9, width: int = 11) -> torch.Tensor:
    """Four random pictures of whole 8-bit values in [0, 1], channels last in memory."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 256, (4, channels, height, width), generator=generator)
    return (bits / 255).contiguous(memory_format=LAST)


def each(change: Any, images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Apply a function of torchvision to one image after the other."""
    return torch.stack([change(image, float(amount)) for image, amount in zip(images, amounts, strict=True)])


FACTORS = torch.tensor([0.0, 0.6, 1.0, 1.7])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, F.adjust_brightness),
        (colour.contrast, F.adjust_contrast),
        (colour.saturation, F.adjust_saturation),
        (colour.sharpness, F.adjust_sharpness),
    ],
)
def test_factors_agree_with_torchvision(ours: Any, theirs: Any, channels: int) -> None:
    """Up to its weights of the luminance, which add up to 0.9999."""
    images = batch(channels)
    before = images.clone()
    found = ours(images, FACTORS)
    assert (found - each(theirs, images, FACTORS)).abs().max() < (2e-4 if channels == 3 else 2e-6)
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=LAST)
    assert found.min() >= 0
    assert found.max() <= 1


def test_hue_agrees_with_torchvision() -> None:
    turns = torch.tensor([-0.5, -0.1, 0.0, 0.3])
    images = batch()
    images[0, :, 0] = 0.4  # gray, black and white have no hue
    images[1, :, 0] = 0
    images[2, :, 0] = 1
    found = colour.hue(images, turns)
    assert (found - each(F.adjust_hue, images, turns)).abs().max() < 2e-5


def test_a_gray_picture_has_no_colour_to_change() -> None:
    images = batch(1)
    assert torch.equal(colour.hue(images, FACTORS), images)
    assert torch.equal(colour.saturation(images, FACTORS), images)
    assert torch.equal(colour.gray(images), images)


def test_gray_agrees_with_torchvision() -> None:
    images = batch()
    assert (colour.gray(images) - F.rgb_to_grayscale(images)).abs().max() < 1e-3  # whose weights add up to 0.9999


@pytest.mark.parametrize("channels", [1, 3])
def test_posterize_keeps_the_upper_bits_as_torchvision_does(channels: int) -> None:
    images = batch(channels)
    bits = torch.tensor([1.0, 2.0, 5.0, 8.0])
    whole = (images * 255).round().to(torch.uint8)
    theirs = torch.stack([F.posterize(image, int(number)) for image, number in zip(whole, bits, strict=True)])
    found = colour.posterize(images, bits)
    assert torch.equal((found * 255).round().to(torch.uint8), theirs)
    assert found.is_contiguous(memory_format=LAST)


def test_solarize_agrees_with_torchvision() -> None:
    images, thresholds = batch(), torch.tensor([0.0, 100 / 255, 0.5, 1.0])
    found = colour.solarize(images, thresholds)
    assert (found - each(F.solarize, images, thresholds)).abs().max() < 1e-6
    assert found.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_agrees_with_torchvision_and_pillow(channels: int) -> None:
    images = batch(channels) * 0.5 + 0.2
    images[1] = 0.3  # one shade cannot be stretched
    found = colour.autocontrast(images)
    assert (found - F.autocontrast(images)).abs().max() < 1e-6
    whole = (batch(channels)[0] * 100).round()
    pillow = ImageOps.autocontrast(Image.fromarray(whole.permute(1, 2, 0).squeeze().to(torch.uint8).numpy()))
    ours = colour.autocontrast(whole[None] / 255)[0].permute(1, 2, 0).squeeze() * 255
    assert np.abs(ours.numpy() - np.asarray(pillow)).max() <= 1
    assert found.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0, 256), (60, 140), (200, 256), (0, 30), (7, 8), (3, 5)])
def test_equalize_is_pillows_to_the_bit(channels: int, low: int, high: int) -> None:
    generator = torch.Generator().manual_seed(low + high)
    whole = torch.randint(low, high, (3, channels, 40, 40), generator=generator, dtype=torch.uint8)
    images = (whole / 255).contiguous(memory_format=LAST)
    found = colour.equalize(images)
    ours = (found * 255).round().to(torch.uint8)
    for one, theirs, image in zip(ours, F.equalize(whole), whole, strict=True):
        pillow = ImageOps.equalize(Image.fromarray(image.permute(1, 2, 0).squeeze().numpy()))
        assert (one.permute(1, 2, 0).squeeze().numpy() == np.asarray(pillow)).all()
        assert torch.equal(one, theirs)
    assert found.is_contiguous(memory_format=LAST)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 20), st.integers(1, 255))
def test_equalize_of_any_picture_is_pillows(seed: int, height: int, width: int, spread: int) -> None:
    whole = torch.randint(
        0, spread + 1, (1, 1, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    ours = (colour.equalize(whole / 255) * 255).round().to(torch.uint8)
    assert (ours[0, 0].numpy() == np.asarray(ImageOps.equalize(Image.fromarray(whole[0, 0].numpy())))).all()


def test_a_picture_too_small_to_smooth_is_left_alone() -> None:
    for height, width in ((1, 1), (2, 9), (9, 2)):
        images = batch(height=height, width=width)
        assert torch.equal(colour.sharpness(images, FACTORS), images)
        assert torch.equal(colour.sharpness(images, FACTORS), each(F.adjust_sharpness, images, FACTORS))
