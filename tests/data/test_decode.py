"""Bytes to pixels: every format and every kind of damage. Pillow and hand-made files are the oracles."""

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from halftone.base.errors import UnreadableImage
from halftone.data.decode import FORMATS, decode, decode_file, look, look_at_file, pixels_of, read_file
from pictures import encoded, noise, png, slope, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as decode.py asks of the interpreter

LOSSLESS = {"WEBP": {"lossless": True}}
LOSSY = ("JPEG", "AVIF")


def refusal(data: bytes, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, **options)
    assert str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "0x" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    picture = slope(24, 32)
    data = encoded(picture, kind, **LOSSLESS.get(kind, {}))
    pixels = decode(data)
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8
    error = np.abs(pixels.astype(int) - picture)
    assert error.mean() < (3 if kind in (*LOSSY, "GIF") else 0.1)
    assert (pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert look(data)[:3] == (24, 32, False)


def test_A7_the_content_decides_not_the_extension(tmp_path: Path) -> None:
    picture = noise(5, 7)
    assert (decode_file(write(tmp_path / "a.jpg", picture)) == picture).all()
    assert (decode_file(write(tmp_path / "a.txt", picture)) == picture).all()
    assert look_at_file(tmp_path / "a.jpg")[:3] == (5, 7, False)


def test_A1_an_empty_file(tmp_path: Path) -> None:
    assert refusal(b"") == "the file is empty"
    with pytest.raises(UnreadableImage, match="the file is empty"):
        look_at_file(write(tmp_path / "a.jpg", b""))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_A2_truncated_jpeg(share: float) -> None:
    data = encoded(noise(64, 64), "JPEG")
    refusal(data[: max(4, int(share * len(data)))])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_A3_truncated_files_of_other_formats(kind: str, share: float) -> None:
    data = encoded(noise(48, 48), kind, **LOSSLESS.get(kind, {}))
    refusal(data[: int(share * len(data))])


@pytest.mark.parametrize("kind", FORMATS)
def test_A4_a_header_without_a_picture(kind: str) -> None:
    refusal(encoded(noise(48, 48), kind)[:30])


def test_A5_rotten_bits_are_refused_or_decode_but_never_crash() -> None:
    data = bytearray(encoded(slope(64, 64), "JPEG"))
    whole = decode(bytes(data))
    data[len(data) // 2 : len(data) // 2 + 8] = bytes(8)
    with contextlib.suppress(UnreadableImage):
        assert decode(bytes(data)).shape == whole.shape


@settings(max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP"]), st.data())
def test_A5_any_damage_ends_in_pixels_or_in_one_named_error(kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(noise(9, 11), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(whole), max_pixels=10**6)
    except UnreadableImage:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@pytest.mark.parametrize("data", [b"<html>not here</html>", b"GIF is a format", b"\x00" * 100, b"RIFFxxxxWEBP"])
def test_A6_text_under_the_name_of_an_image(data: bytes) -> None:
    assert refusal(data) == "it is not an image of a known format"


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "JPEG2000"])
def test_A8_other_formats_are_refused_even_if_pillow_knows_them(kind: str) -> None:
    assert refusal(encoded(slope(32, 32), kind)) == "it is not an image of a known format"


def test_A8_headers_of_formats_with_a_history() -> None:
    fits = b"SIMPLE  =                    T" + b" " * 2850
    photoshop = b"8BPS\x00\x01" + b"\x00" * 6 + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + b"\x00" * 100
    for data in (fits, photoshop, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        assert refusal(data) == "it is not an image of a known format"


def test_a_header_is_read_without_decoding_the_picture(tmp_path: Path) -> None:
    data = encoded(noise(64, 64))
    assert look(data[:60])[:3] == (64, 64, False)
    assert look_at_file(write(tmp_path / "a.png", data[:60]))[:3] == (64, 64, False)


@pytest.mark.parametrize(
    "junk", [b"Exif\x00\x00" + b"\xff" * 40, b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00"]
)
def test_A15_a_damaged_exif_block_costs_nothing(junk: bytes) -> None:
    plain = encoded(slope(32, 24), "JPEG")
    for marker in (b"\xff\xe1", b"\xff\xe2"):
        data = plain[:2] + marker + struct.pack(">H", len(junk) + 2) + junk + plain[2:]
        assert (decode(data) == decode(plain)).all()
        assert look(data) == look(plain)


def test_A15_a_damaged_colour_profile_costs_nothing() -> None:
    plain = slope(32, 24)
    for kind in ("JPEG", "PNG"):
        data = encoded(plain, kind, icc_profile=b"\x00\x01broken" * 20)
        assert (decode(data) == decode(encoded(plain, kind))).all()


def test_A15_odd_exif_values_do_not_cost_the_orientation() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    exif[0x9286] = b"\xff\x00\xfe"
    exif[0x010F] = "maker"
    data = encoded(noise(6, 9), exif=exif)
    assert decode(data).shape == (9, 6, 3)


def test_A16_a_large_picture_is_refused_before_it_costs_memory() -> None:
    side = 13_300
    row = bytes(1 + (side + 7) // 8)
    packer = zlib.compressobj(1)
    body = b"".join([*(packer.compress(row * 100) for _ in range(side // 100)), packer.flush()])
    small = png(side, side, bits=1)
    data = small.replace(zlib.compress(b""), body)
    assert refusal(data) == "13300 x 13300 pixels are more than the limit of 100 megapixels"
    with pytest.raises(UnreadableImage, match="limit of 100 megapixels"):
        look(data)


def test_A17_a_bomb_of_a_header() -> None:
    data = png(20_000, 20_000)
    assert len(data) < 80
    assert "more than the limit" in refusal(data)
    assert "5 x 5 pixels are more than the limit" in refusal(encoded(noise(5, 5)), max_pixels=20)
    assert decode(encoded(noise(5, 5)), max_pixels=25).shape == (5, 5, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1)])
def test_A18_extreme_shapes(height: int, width: int) -> None:
    picture = noise(height, width)
    assert (decode(encoded(picture)) == picture).all()


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_A18_pictures_without_pixels(width: int, height: int) -> None:
    refusal(png(width, height))
    refusal(b"P6 %d %d 255\n" % (width, height))


def test_A22_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for read in (read_file, decode_file, look_at_file):
        with pytest.raises(UnreadableImage, match="it is not a regular file"):
            read(tmp_path / "pipe.jpg")
        with pytest.raises(UnreadableImage, match="it is a folder"):
            read(tmp_path)


def test_A34_a_file_that_is_gone_is_an_unreadable_image(tmp_path: Path) -> None:
    for read in (read_file, decode_file, look_at_file):
        with pytest.raises(UnreadableImage, match=r"^No such file or directory$"):
            read(tmp_path / "gone.jpg")


def test_A20_a_file_without_permission(plain_user: Path) -> None:
    write(plain_user / "a.png").chmod(0)
    for read in (read_file, decode_file, look_at_file):
        with pytest.raises(UnreadableImage, match="Permission denied"):
            read(plain_user / "a.png")


def test_a_pillow_picture_that_is_damaged_is_an_unreadable_image() -> None:
    data = encoded(noise(48, 48))
    with pytest.raises(UnreadableImage):
        pixels_of(Image.open(io.BytesIO(data[: len(data) // 2])))
    assert (pixels_of(Image.fromarray(noise(3, 4))) == noise(3, 4)).all()
