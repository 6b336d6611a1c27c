"""What the network sees of a picture: Pillow, decoding in full, is the oracle of the ways that decode less."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from halftone.base.errors import UnreadableImage
from halftone.base.inputs import InputSpec
from halftone.data import cut as cutting
from halftone.data.config import DataConfig
from halftone.data.cut import cut, cut_file
from halftone.data.decode import decode, pixels_of
from halftone.data.fit import Box, fit, middle
from halftone.data.jpeg import LEAST_REDUCTION, decode_part, denominator, read_header
from halftone.data.open import open_source
from halftone.data.streaming import RandomBox
from halftone.data.turn import Turn
from pictures import Pixels, encoded, noise, slope, write

KINDS: dict[str, dict[str, object]] = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "rgb": {"keep_rgb": True},
}


def spec(size: int, **options: object) -> InputSpec:
    return InputSpec.model_validate({"size": size, "mean": (0.5,), "std": (0.5,), **options})


def photo(height: int, width: int) -> Pixels:
    """Smooth colours under some noise."""
    return np.clip(slope(height, width).astype(int) + noise(height, width) // 8 - 16, 0, 255).astype(np.uint8)


def by_pillow(data: bytes, size: int, box: Box) -> Pixels:
    """Decode in full, turn upright, cut out and resize, all by Pillow."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    edges = (int(box.left), int(box.top), int(box.right), int(box.bottom))
    return np.asarray(picture.crop(edges).resize((size, size), Image.Resampling.BILINEAR))


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the whole picture is decoded after all."""

    def refuse(_: Image.Image) -> Pixels:
        raise AssertionError("decoded in full")

    monkeypatch.setattr(cutting, "pixels_of", refuse)


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("kind", KINDS)
def test_rows_below_the_box_are_not_decoded(kind: str) -> None:
    data, box = encoded(photo(300, 61), "JPEG", quality=90, **KINDS[kind]), Box(3, 5, 40, 33)
    found = cut_file(data, spec(24), lambda *_: box)
    assert np.abs(found.astype(int) - by_pillow(data, 24, box)).max() <= 1


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box", [Box(0, 0, 61, 47), Box(5, 0, 40, 20), Box(20, 30, 61, 47), Box(13, 17, 31, 29)])
def test_a_box_without_reduction_is_pillows_to_the_rounding(kind: str, box: Box) -> None:
    data = encoded(photo(47, 61), "JPEG", quality=90, **KINDS[kind])
    found = cut_file(data, spec(24), lambda *_: box)
    assert np.abs(found.astype(int) - by_pillow(data, 24, box)).max() <= 1


@settings(max_examples=60)
@given(st.sampled_from(list(KINDS)), st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 2, 4, 8]), st.data())
def test_a_part_is_the_same_part_of_the_whole(kind: str, height: int, width: int, by: int, data: st.DataObject) -> None:
    content = encoded(photo(height, width), "JPEG", **KINDS[kind])
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    box = box.on_grid(by, height, width)
    header = read_header(content)
    assert header is not None
    with Image.open(io.BytesIO(content)) as picture:
        assert (header.width, header.height) == picture.size
        part = decode_part(content, header, box, by)
        whole = decode_part(content, header, Box(0, 0, width, height), by)
        assert part is not None
        assert whole is not None
        rows = slice(int(box.top) // by, -(-int(box.bottom) // by))
        assert (part == whole[rows, int(box.left) // by : -(-int(box.right) // by)]).all()
        if by == 1:
            assert (whole == pixels_of(picture)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_a_turned_picture(orientation: int) -> None:
    data = encoded(photo(48, 64), "JPEG", exif=_exif(orientation))
    height, width = (48, 64) if orientation < 5 else (64, 48)
    for box in (Box(3, 5, 40, 28), Box(0, 0, width, height), Box(30, 2, width, 40)):
        found = cut_file(data, spec(20), lambda *_, box=box: box)
        assert np.abs(found.astype(int) - by_pillow(data, 20, box)).max() <= 1


@given(st.integers(1, 8), st.integers(1, 30), st.integers(1, 30), st.data())
def test_where_a_part_is_stored(orientation: int, height: int, width: int, data: st.DataObject) -> None:
    stored, turn = noise(height, width), Turn.of(orientation)
    upright = turn.upright(stored)
    high, wide = upright.shape[:2]
    left, top = data.draw(st.integers(0, wide - 1)), data.draw(st.integers(0, high - 1))
    right, bottom = data.draw(st.integers(left + 1, wide)), data.draw(st.integers(top + 1, high))
    box = turn.stored(Box(left, top, right, bottom), height, width)
    part = stored[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    assert (turn.upright(part) == upright[top:bottom, left:right]).all()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_how_much_is_left_to_the_resizing() -> None:
    assert [denominator(side, 9999, 100, 100) for side in (249, 250, 499, 500, 999, 1000)] == [1, 2, 2, 4, 4, 8]
    assert denominator(9999, 9999, 100, 100) == 8
    assert denominator(9999, 150, 100, 100) == 1
    for side in range(100, 2000, 7):
        by = denominator(side, side, 100, 100)
        assert by == 1 or side / by >= 100 * LEAST_REDUCTION


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_real_photos_differ_from_pillows_by_less_than_a_value_and_a_half(shared_data: Path, size: int) -> None:
    files = sorted((shared_data / "photos" / "train").rglob("*.jpg"))[::25]
    assert len(files) >= 20
    draw = RandomBox((0.35, 1.0), seed=1).draw
    differences = {"middle": [], "random": []}  # type: dict[str, list[float]]
    for number, file in enumerate(files):
        data = file.read_bytes()
        with Image.open(file) as picture:
            width, height = picture.size
        for name, box in (
            ("middle", middle(height, width, spec(size))),
            ("random", draw(height, width, epoch=0, position=number)),
        ):
            found = cut_file(data, spec(size), lambda *_, box=box: box)
            theirs = by_pillow(data, size, box.on_grid(1, height, width))
            differences[name].append(float(np.abs(found.astype(int) - theirs).mean()))
    for name, found_of in differences.items():
        assert np.mean(found_of) < 1.5, name


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_pictures(channels: int) -> None:
    gray = photo(60, 80)[:, :, :1]
    data = encoded(gray, "JPEG")
    box = Box(2, 3, 50, 44)
    found = cut_file(data, spec(30, channels=channels), lambda *_: box)
    assert found.shape == (30, 30, channels)
    theirs = by_pillow(data, 30, box)[:, :, :channels]
    assert np.abs(found.astype(int) - theirs).max() <= 1


def test_what_the_fast_way_does_not_know_is_decoded_in_full() -> None:
    colour = photo(40, 50)
    cmyk = encoded(Image.fromarray(colour).convert("CMYK"), "JPEG")
    behind = encoded(colour, "JPEG") + b"\0" * 40
    for data in (cmyk, behind, encoded(colour, "PNG"), encoded(colour, "WEBP"), encoded(colour[:, :, :1], "PNG")):
        assert read_header(data) is None
        for choose in (None, lambda *_: Box(4, 4, 33, 29)):
            box = None if choose is None else choose()
            assert (cut_file(data, spec(16), choose) == fit(decode(data), spec(16), box)).all()


def test_a_header_is_read_as_pillow_reads_it(shared_data: Path) -> None:
    for file in sorted((shared_data / "photos" / "train").rglob("*.jpg"))[::10]:
        header = read_header(file.read_bytes())
        with Image.open(file) as picture:
            assert header is None or (header.width, header.height, header.gray) == (*picture.size, picture.mode == "L")
            assert header is not None or picture.mode not in ("L", "RGB") or not file.read_bytes().endswith(b"\xff\xd9")


@pytest.mark.usefixtures("only_fast")
def test_nearest_takes_pixels_of_the_full_resolution() -> None:
    data = encoded(photo(200, 200), "JPEG")
    found = cut_file(data, spec(20, interpolation="nearest"))
    with Image.open(io.BytesIO(data)) as picture:
        assert (found == np.asarray(picture.resize((20, 20), Image.Resampling.NEAREST))).all()


def test_the_limit_of_pixels_holds() -> None:
    with pytest.raises(UnreadableImage, match="more than the limit"):
        cut_file(encoded(photo(40, 50), "JPEG"), spec(8), max_pixels=1999)


@pytest.mark.parametrize("rows", [40, 96])
@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restarts"])
def test_damaged_files_are_refused_and_read_as_before(kind: str, rows: int) -> None:
    """Truncations, zeroed blocks, missing pieces and bytes behind the end: the answer is that of the full decoder."""
    data = encoded(photo(96, 128), "JPEG", quality=90, **KINDS[kind])
    random, size = np.random.default_rng(0), len(data)
    cases = [data[:length] for length in np.linspace(1, size - 1, 60).astype(int)]
    for start in np.linspace(0, size - 40, 40).astype(int):
        cases.append(data[:start] + bytes(40) + data[start + 40 :])
        cases.append(data[:start] + data[start + 40 :])
        cases.append(data[:start] + random.bytes(8) + data[start + 8 :])
    cases += [data + bytes(100), data + random.bytes(100), data + b"\xff\xd9", data[: size // 2] + b"\xff\xd9"]
    refused, box = 0, Box(8, 2, 100, rows)
    for content in cases:
        full, theirs = _answer(lambda content=content: fit(decode(content), spec(60), box))
        part, ours = _answer(lambda content=content: cut_file(content, spec(60), lambda *_: box))
        assert ours == theirs
        refused += theirs != ""
        if full is not None and part is not None:
            assert np.abs(part.astype(int) - full).max() <= 1
    assert 60 < refused < len(cases)


def _answer(read: Callable[[], Pixels]) -> tuple[Pixels | None, str]:
    try:
        return read(), ""
    except UnreadableImage as error:
        return None, str(error)


def test_a_truncated_file_is_refused_also_where_the_box_lies_above_the_cut() -> None:
    data = encoded(photo(400, 300), "JPEG", quality=95)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(UnreadableImage, match="truncated"):
            cut_file(data[: int(len(data) * share)], spec(16), lambda *_: Box(0, 0, 40, 20))


def test_sources_give_files_where_they_have_them(tmp_path: Path) -> None:
    for number, kind in enumerate(("JPEG", "PNG", "JPEG", "PNG")):
        write(tmp_path / "ab"[number % 2] / f"{number}.{kind.lower()}", encoded(photo(50 + number, 60), kind))
    source = open_source(DataConfig(source=str(tmp_path))).train
    for index in range(4):
        file = source.encoded(index)
        assert file is not None
        assert file.content == source.content(index)
        assert (cut(source, index, spec(16)) == cut_file(file.content, spec(16))).all()
    digits = open_source(DataConfig(source="digits")).train
    assert digits.encoded(0) is None
    assert (cut(digits, 3, spec(8, channels=1)) == digits.pixels(3)).all()


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(2, 150), st.integers(2, 150), st.integers(1, 24), st.data())
def test_any_box_of_any_jpeg_is_near_pillows(
    orientation: int, height: int, width: int, size: int, data: st.DataObject
) -> None:
    content = encoded(slope(height, width), "JPEG", quality=95, exif=_exif(orientation))
    high, wide = (height, width) if orientation < 5 else (width, height)
    left, top = data.draw(st.integers(0, wide - 1)), data.draw(st.integers(0, high - 1))
    box = Box(left, top, data.draw(st.integers(left + 1, wide)), data.draw(st.integers(top + 1, high)))
    found = cut_file(content, spec(size), lambda *_: box)
    assert np.abs(found.astype(int) - by_pillow(content, size, box)).mean() < 4
