"""Every mode, depth, frame and orientation that a picture can have. Pillow and the definitions are the oracles."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from halftone.base.errors import UnreadableImage
from halftone.data.decode import decode, look, pixels_of
from pictures import encoded, noise, png, slope

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as decode.py asks of the interpreter

LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}}


def refusal(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_A9_cmyk() -> None:
    picture = slope(40, 40)
    pixels = decode(encoded(Image.fromarray(picture).convert("CMYK"), "JPEG", quality=95))
    assert pixels.shape == (40, 40, 3)
    assert np.abs(pixels.mean((0, 1)) - picture.mean((0, 1))).max() < 0.05 * 255


GRAY = noise(6, 8, 1)[:, :, 0]
ALPHA = noise(6, 8, 1, seed=1)[:, :, 0]


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The definition of compositing, in floating point."""
    share = alpha[:, :, None] / 255
    return colours * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_A10_rgba_lies_over_white(kind: str) -> None:
    rgba = np.dstack([noise(6, 8), ALPHA])
    pixels = decode(encoded(rgba, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert np.abs(pixels - over_white(rgba[:, :, :3], ALPHA)).max() <= 1


def test_A10_gray() -> None:
    assert (decode(encoded(GRAY)) == GRAY[:, :, None]).all()
    assert decode(encoded(GRAY)).shape == (6, 8, 3)
    assert look(encoded(GRAY)).gray
    assert look(encoded(GRAY, "JPEG")).gray


def test_A10_gray_with_alpha() -> None:
    picture = Image.merge("LA", (Image.fromarray(GRAY), Image.fromarray(ALPHA)))
    gray = np.repeat(GRAY[:, :, None], 3, axis=2)
    assert np.abs(decode(encoded(picture)) - over_white(gray, ALPHA)).max() <= 1
    assert look(encoded(picture)).gray


def test_A10_one_bit() -> None:
    bits = GRAY > 127
    assert (decode(encoded(Image.fromarray(bits))) == np.where(bits, 255, 0)[:, :, None]).all()
    assert look(encoded(Image.fromarray(bits))).gray


def test_A10_palette() -> None:
    picture = Image.fromarray(noise(6, 8)).quantize(16)
    assert (decode(encoded(picture)) == np.asarray(picture.convert("RGB"))).all()
    assert (decode(encoded(picture, "GIF")) == np.asarray(picture.convert("RGB"))).all()


def test_A10_palette_with_transparency() -> None:
    picture = Image.fromarray(noise(6, 8)).quantize(16)
    hidden = np.asarray(picture) == 3
    assert hidden.any()
    for kind in ("PNG", "GIF"):
        expected = np.where(hidden[:, :, None], 255, np.asarray(picture.convert("RGB")))
        assert (decode(encoded(picture, kind, transparency=3)) == expected).all()
    shares = bytes(range(0, 256, 16))
    alpha = np.array(list(shares))[np.asarray(picture)]
    expected = over_white(np.asarray(picture.convert("RGB")), alpha)
    assert np.abs(decode(encoded(picture, transparency=shares)) - expected).max() <= 1


def test_A10_one_transparent_colour() -> None:
    picture = noise(6, 8)
    picture[2:4, 2:5] = (10, 20, 30)
    expected = picture.copy()
    expected[2:4, 2:5] = 255
    assert (decode(encoded(picture, transparency=(10, 20, 30))) == expected).all()
    gray = GRAY.copy()
    gray[gray == 77] = 78
    gray[1, 1:5] = 77
    assert (decode(encoded(gray, transparency=77))[1, 1:5] == 255).all()
    assert (decode(encoded(gray, transparency=77))[2:, :, 0] == gray[2:]).all()


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_A10_other_colour_spaces(mode: str) -> None:
    picture = Image.fromarray(slope(16, 16)).convert(mode)
    assert np.abs(pixels_of(picture).astype(int) - slope(16, 16)).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_A11_sixteen_bits_keep_their_upper_half(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16)
    pixels = decode(encoded(values, kind))
    assert (pixels == (values >> 8)[:, :, None]).all()
    assert look(encoded(values, kind)).gray
    assert abs(pixels.mean() - decode(encoded((values >> 8).astype(np.uint8))).mean()) < 2


def test_A11_a_dark_sixteen_bit_picture_stays_dark() -> None:
    assert (decode(encoded(np.full((4, 4), 200, dtype=np.uint16))) == 0).all()


def test_A11_sixteen_bits_of_colour() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 4, 3)).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)
    assert (decode(png(4, 5, bits=16, colour=2, rows=rows)) == values >> 8).all()


@pytest.mark.parametrize(
    ("high", "expected"), [(255, lambda v: v), (65535, lambda v: v >> 8), (65536, None), (2**31 - 1, None)]
)
def test_A11_wide_integers_are_read_as_what_they_hold_or_refused(
    high: int, expected: Callable[[Any], Any] | None
) -> None:
    values = np.linspace(0, high, 20, dtype=np.int32).reshape(4, 5)
    data = encoded(Image.fromarray(values), "TIFF")
    if expected is None:
        assert refusal(data) == f"values from 0 to {high}; only 8 and 16 bits are read"
    else:
        assert (decode(data) == expected(values)[:, :, None]).all()
    with pytest.raises(UnreadableImage, match="values from -1 "):
        pixels_of(Image.fromarray(np.full((2, 2), -1, dtype=np.int32)))


def test_A12_floating_point_has_a_rule() -> None:
    values = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    assert (decode(encoded(values, "TIFF")) == np.rint(values * 255)[:, :, None]).all()
    values[0, 0] = 1
    assert (decode(encoded(values * 255, "TIFF")) == np.rint(values * 255)[:, :, None]).all()
    assert decode(encoded(values, "TIFF")).mean() > 100  # never black in silence


@pytest.mark.parametrize("bad", [-0.5, 1000.0, float("nan"), float("inf")])
def test_A12_other_floating_point_is_refused(bad: float) -> None:
    values = np.zeros((3, 3), dtype=np.float32)
    values[1, 1] = bad
    assert "floating-point values from" in refusal(encoded(values, "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_A13_the_first_of_several_frames(kind: str) -> None:
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert np.abs(decode(data).astype(int) - (255, 0, 0)).max() < 6
    assert look(data)[:2] == (6, 8)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_A14_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(noise(6, 9), kind, exif=exif, **LOSSLESS.get(kind, {}))
    pixels = decode(data)
    with Image.open(io.BytesIO(data)) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    assert (pixels == np.asarray(upright)).all()
    assert look(data)[:2] == pixels.shape[:2]
    assert (pixels_of(Image.open(io.BytesIO(data))) == pixels).all()


def test_A14_eight_orientations_of_one_scene_are_one_picture() -> None:
    scene = noise(6, 9)
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x112] = orientation
        assert (decode(encoded(np.ascontiguousarray(pixels), exif=exif)) == scene).all(), orientation


def test_A14_orientation_of_a_sixteen_bit_picture() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) << 8
    assert (decode(encoded(values, exif=exif))[:, :, 0] == np.rot90(values >> 8, -1)).all()
