"""From a decoded picture to the network's input. Pillow is the oracle for resizing, torchvision for the middle crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as F

from halftone.base.inputs import InputSpec, Interpolation
from halftone.data.fit import Box, convert_channels, fit, middle
from pictures import Pixels, noise

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def spec(size: int, **options: object) -> InputSpec:
    return InputSpec.model_validate({"size": size, "mean": (0.5,), "std": (0.5,), **options})


def assert_close(found: Pixels, theirs: Image.Image) -> None:
    """Equal but for rounding, once in either direction."""
    difference = np.abs(found.astype(int) - np.asarray(theirs))
    assert difference.max() <= 2
    assert (difference > 1).mean() < 0.01


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(("height", "width"), [(20, 20), (33, 20), (20, 41), (7, 9), (1, 50), (1, 1)])
def test_squashing_is_pillows_resize(interpolation: Interpolation, height: int, width: int) -> None:
    picture = noise(height, width)
    found = fit(picture, spec(12, fit="squash", interpolation=interpolation))
    assert_close(found, Image.fromarray(picture).resize((12, 12), FILTERS[interpolation]))
    gray = fit(picture[:, :, :1], spec(12, fit="squash", interpolation=interpolation, channels=1))
    assert_close(gray[:, :, 0], Image.fromarray(picture[:, :, 0]).resize((12, 12), FILTERS[interpolation]))


@pytest.mark.parametrize(("height", "width"), [(20, 20), (20, 40), (40, 20), (10, 60)])
def test_cropping_is_resizing_the_shorter_side_and_taking_the_middle(height: int, width: int) -> None:
    picture = noise(height, width)
    small = Image.fromarray(picture).resize(
        (8 * width // min(height, width), 8 * height // min(height, width)), Image.Resampling.BILINEAR
    )
    expected = np.asarray(F.center_crop(small, [8, 8]))
    inner = slice(1, -1)  # at the edges theirs looks beyond the crop
    assert np.abs(fit(picture, spec(8)).astype(int) - expected)[inner, inner].max() <= 1


def test_the_share_of_the_crop_agrees_with_resize_then_centre_crop() -> None:
    down, right = np.mgrid[0:64, 0:96]
    picture = np.stack([down * 3, right * 2, (down + right) * 1.5], 2).astype(np.uint8)
    found = fit(picture, spec(28, crop=0.875))
    theirs = F.center_crop(F.resize(F.to_image(picture), 32, antialias=True), [28, 28])
    inner = slice(1, -1)  # at the edges theirs looks beyond the crop
    assert np.abs(found.astype(int) - theirs.permute(1, 2, 0).numpy())[inner, inner].max() <= 1  # theirs rounds twice


def test_A18_A19_small_and_extreme_pictures_are_enlarged() -> None:
    for height, width in ((8, 8), (1, 1), (1, 5000), (5000, 1), (3, 2)):
        for options in ({}, {"crop": 0.875}, {"fit": "squash"}):
            found = fit(np.full((height, width, 3), 77, dtype=np.uint8), spec(32, **options))
            assert found.shape == (32, 32, 3)
            assert (found == 77).all()


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    picture = noise(16, 16)
    assert (fit(picture, spec(16)) == picture).all()
    assert (fit(picture, spec(16, crop=0.875)) != picture).any()


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 24),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
    st.data(),
)
def test_any_picture_and_box_gives_the_shape_asked_for(
    height: int, width: int, size: int, has: int, wanted: int, data: st.DataObject
) -> None:
    left = data.draw(st.floats(0, width * 0.9))
    top = data.draw(st.floats(0, height * 0.9))
    box = Box(left, top, data.draw(st.floats(left + 0.01, width)), data.draw(st.floats(top + 0.01, height)))
    for part in (None, box):
        found = fit(noise(height, width, has), spec(size, channels=wanted), part)
        assert found.shape == (size, size, wanted)
        assert found.dtype == np.uint8


def test_a_box_is_cut_out_at_whole_pixels_and_resized_as_pillow_does() -> None:
    picture = noise(30, 40)
    expected = Image.fromarray(picture).crop((4, 2, 30, 20)).resize((9, 9), Image.Resampling.BILINEAR)
    assert_close(fit(picture, spec(9), Box(3.6, 2.25, 30, 19.75)), expected)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 2, 4, 8]), st.data())
def test_a_box_on_a_grid_is_not_empty_and_lies_in_the_picture(
    height: int, width: int, step: int, data: st.DataObject
) -> None:
    left = data.draw(st.floats(0, width * 0.99))
    top = data.draw(st.floats(0, height * 0.99))
    box = Box(left, top, data.draw(st.floats(left, width)), data.draw(st.floats(top, height)))
    found = box.on_grid(step, height, width)
    assert 0 <= found.left < found.right <= width
    assert 0 <= found.top < found.bottom <= height
    for edge, asked, end in ((found.left, left, width), (found.top, top, height)):
        assert edge % step == 0
        assert abs(edge - asked) <= max(step / 2, asked - (end - 1) // step * step)
    for edge, end in ((found.right, width), (found.bottom, height)):
        assert edge == end or edge % step == 0
    assert found.on_grid(step, height, width) == found


def test_the_middle_of_a_picture() -> None:
    assert middle(20, 40, spec(8)) == Box(10, 0, 30, 20)
    assert middle(20, 40, spec(8, crop=0.5)) == Box(15, 5, 25, 15)
    assert middle(20, 40, spec(8, fit="squash", crop=0.5)) == Box(0, 0, 40, 20)


def test_channels_are_converted_as_pillow_does() -> None:
    colour = noise(50, 50)
    gray = convert_channels(colour, 1)
    assert np.abs(gray[:, :, 0].astype(int) - np.asarray(Image.fromarray(colour).convert("L"))).max() <= 1
    assert (convert_channels(gray, 3) == np.repeat(gray, 3, axis=2)).all()
    assert (convert_channels(convert_channels(gray, 3), 1) == gray).all()
    assert convert_channels(colour, 3) is colour
    batch = np.stack([colour, colour[::-1]])
    assert (convert_channels(batch, 1)[0] == gray).all()
