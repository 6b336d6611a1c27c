"""Moving pixels, against NumPy and torchvision."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from halftone.data.augment import geometry

LAST = torch.channels_last


def batch(count: int = 3, channels: int = 3, height: int = 16, width: int = 16, *, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures in [0, 1], channels last in memory, as the feeds give them."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, channels, 4, 4, generator=generator)
    grown = torch.nn.functional.interpolate(small, (height, width), mode="bilinear", align_corners=True)
    return grown.contiguous(memory_format=LAST)


def inside(images: torch.Tensor, border: int) -> torch.Tensor:
    return images[..., border:-border, border:-border]


@settings(max_examples=60)
@given(
    st.booleans(),
    st.integers(-20, 20),
    st.integers(-20, 20),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 3]),
)
def test_flip_and_shift_is_numpys_reflection(
    flipped: bool, down: int, right: int, height: int, width: int, channels: int
) -> None:
    images = torch.arange(2 * channels * height * width, dtype=torch.uint8).reshape(2, channels, height, width)
    found = geometry.flip_and_shift(
        images, torch.tensor([flipped, False]), torch.tensor([down, 0]), torch.tensor([right, 0])
    )
    pad = 20
    wide = np.pad(images[0].numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    rows, columns = slice(pad - down, pad - down + height), slice(pad - right, pad - right + width)
    expected = wide[:, rows, columns]
    if flipped:  # first the mirror, then the shift of what is seen
        wide = np.pad(images[0].numpy()[:, :, ::-1], ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
        expected = wide[:, rows, columns]
    assert (found[0].numpy() == expected).all()
    assert torch.equal(found[1], images[1])
    assert found.is_contiguous(memory_format=LAST)
    assert found.dtype == torch.uint8


@pytest.mark.parametrize(("dimension", "theirs"), [(3, F.horizontal_flip), (2, F.vertical_flip)])
def test_mirrors_agree_with_torchvision(dimension: int, theirs: Any) -> None:
    images = batch(height=5, width=7)
    found = geometry.mirror(images, np.array([True, False, True]), dimension)
    assert torch.equal(found[[0, 2]], theirs(images[[0, 2]]))
    assert torch.equal(found[1], images[1])
    assert found.is_contiguous(memory_format=LAST)


def test_maps_that_change_nothing() -> None:
    images = batch()
    for maps in (
        geometry.identity(3),
        geometry.rotation(np.zeros(3)),
        geometry.shear(np.zeros(3), np.zeros(3)),
        geometry.translation(np.zeros(3), np.zeros(3)),
        geometry.crop(np.zeros(3), np.zeros(3), np.ones(3), np.ones(3)),
    ):
        assert maps.shape == (3, 2, 3)
        found = geometry.warp(images, maps)
        assert (found - images).abs().max() < 1e-5


@pytest.mark.parametrize("degrees", [90.0, 180.0, -90.0, 30.0, -7.5])
def test_rotation_is_anticlockwise_as_torchvisions(degrees: float) -> None:
    images = batch()
    found = geometry.warp(images, geometry.rotation(np.full(3, degrees)))
    theirs = F.rotate(images, degrees, interpolation=InterpolationMode.BILINEAR)
    assert (inside(found, 4) - inside(theirs, 4)).abs().max() < 1e-4


@pytest.mark.parametrize("tangent", [0.3, -0.2])
def test_shear_agrees_with_torchvision(tangent: float) -> None:
    images = batch()
    amount, none = np.full(3, tangent), np.zeros(3)
    for maps, angles in (
        (geometry.shear(amount, none), [np.rad2deg(np.arctan(tangent)), 0.0]),
        (geometry.shear(none, amount), [0.0, np.rad2deg(np.arctan(tangent))]),
    ):
        theirs = F.affine(images, 0, [0, 0], 1.0, angles, interpolation=InterpolationMode.BILINEAR)
        assert (inside(geometry.warp(images, maps), 4) - inside(theirs, 4)).abs().max() < 1e-4


def test_translation_moves_the_content_right_and_down() -> None:
    images = batch()
    found = geometry.warp(images, geometry.translation(np.full(3, 3 / 16), np.full(3, 2 / 16)))
    theirs = F.affine(images, 0, [3, 2], 1.0, [0.0, 0.0])
    assert (found - theirs)[..., 2:, 3:].abs().max() < 1e-5
    shifted = geometry.flip_and_shift(
        images, torch.zeros(3, dtype=torch.bool), torch.full((3,), 2), torch.full((3,), 3)
    )
    assert (found - shifted)[..., 3:, 4:].abs().max() < 1e-5


def test_crop_enlarges_the_rectangle() -> None:
    images = batch(height=16, width=16)
    found = geometry.warp(images, geometry.crop(np.full(3, 0.25), np.full(3, 0.5), np.full(3, 0.5), np.full(3, 0.25)))
    theirs = F.resized_crop(images, 8, 4, 4, 8, [16, 16], antialias=False)
    assert (inside(found, 4) - inside(theirs, 4)).abs().max() < 1e-4


def test_maps_are_composed_in_the_order_of_the_words() -> None:
    images = batch(height=24, width=24)
    crop = geometry.crop(np.full(3, 0.2), np.full(3, 0.1), np.full(3, 0.7), np.full(3, 0.8))
    turn = geometry.rotation(np.full(3, 20.0))
    together = geometry.warp(images, geometry.compose(crop, turn))
    apart = geometry.warp(geometry.warp(images, crop), turn)
    assert (inside(together, 7) - inside(apart, 7)).abs().max() < 0.02  # which interpolates twice
    other = geometry.warp(geometry.warp(images, turn), crop)
    assert (inside(together, 7) - inside(other, 7)).abs().max() > 0.05


def test_each_image_has_its_own_map() -> None:
    images = batch()
    found = geometry.warp(images, geometry.rotation(np.array([0.0, 90.0, 180.0])))
    assert (found[0] - images[0]).abs().max() < 1e-5
    assert (found[1] - images[1].rot90(1, (1, 2))).abs().max() < 1e-5
    assert (found[2] - images[2].rot90(2, (1, 2))).abs().max() < 1e-5


def test_what_enters_from_outside_is_the_mirror_image() -> None:
    images = batch(1, 1, 8, 8)
    found = geometry.warp(images, geometry.translation(np.array([2 / 8]), np.array([0.0])))
    assert (found[..., 0] - images[..., 1]).abs().max() < 1e-5  # here the border pixel itself is repeated
    assert (found[..., 1] - images[..., 0]).abs().max() < 1e-5
    far = geometry.warp(images, geometry.translation(np.array([5.0]), np.array([-7.3])))
    assert far.min() >= images.min() - 1e-6
    assert far.max() <= images.max() + 1e-6


def test_shifts_can_repeat_the_border_instead() -> None:
    images = torch.arange(2 * 1 * 5 * 4).reshape(2, 1, 5, 4)
    down, right = torch.tensor([2, -1]), torch.tensor([-3, 1])
    found = geometry.flip_and_shift(images, torch.tensor([False, True]), down, right, border="edge")
    for number, (dy, dx, flipped) in enumerate([(2, -3, False), (-1, 1, True)]):
        padded = np.pad(images[number, 0].numpy(), 4, mode="edge")
        shifted = padded[4 - dy : 9 - dy, 4 - dx : 8 - dx]
        if flipped:  # mirrored first, then shifted: the columns are looked up in the mirrored picture
            mirrored = np.pad(images[number, 0].numpy()[:, ::-1], 4, mode="edge")
            shifted = mirrored[4 - dy : 9 - dy, 4 - dx : 8 - dx]
        np.testing.assert_array_equal(found[number, 0].numpy(), shifted)
