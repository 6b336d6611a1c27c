"""Images that are there more than once: equal, or alike."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from halftone.data import look_alike
from halftone.data.check import PartCheck, check_part
from halftone.data.config import DataConfig
from halftone.data.copies import Copies, find_copies, leaked
from halftone.data.look_alike import look_alikes, thumbnail
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays
from halftone.data.sources.dataset import open_given
from pictures import Pixels, encoded, noise, write


def scene(seed: int, side: int = 64) -> Pixels:
    """A picture with large shapes and small ones, as nature has them: amplitudes fall with the frequency."""
    random = np.random.default_rng(seed)
    layers = [gaussian_filter(random.normal(size=(side, side, 3)), (scale, scale, 0)) * scale for scale in (1, 2, 4, 8)]
    whole = np.sum(layers, axis=0)
    return np.uint8(np.clip(128 + 45 * whole / whole.std(), 0, 255))


def checks_of(source: str | Path, **options: Any) -> list[PartCheck]:
    parts = open_source(DataConfig(source=str(source)), **options)
    named = (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
    return [list(check_part(name, part, workers=2))[-1] for name, part in named if part is not None]


def test_A31_A32_copies_within_and_across_parts_and_under_two_labels(tmp_path: Path) -> None:
    one, two, three = (noise(4, 4, seed=seed) for seed in (1, 2, 3))
    files = {
        "train/a/1.png": one,
        "train/a/2.png": one,
        "train/b/3.png": two,
        "train/a/4.png": three,
        "train/b/5.png": noise(4, 4),
    }
    files |= {"val/a/6.png": noise(4, 4, seed=9), "val/b/7.png": two, "val/b/8.png": three}
    for name, picture in files.items():
        write(tmp_path / name, picture)
    copies = find_copies(checks_of(tmp_path))
    found = {group.names: (group.kind, group.parts, group.labels) for group in copies}
    assert found == {
        ("train/a/1.png", "train/a/2.png"): ("equal", ("train",), ("a",)),
        ("train/b/3.png", "val/b/7.png"): ("equal", ("train", "validation"), ("b",)),
        ("train/a/4.png", "val/b/8.png"): ("equal", ("train", "validation"), ("a", "b")),
    }
    assert (leaked(copies, "train"), leaked(copies, "validation")) == (2, 2)


def test_A31_the_same_pixels_in_another_file_are_equal(tmp_path: Path) -> None:
    picture, gray = noise(9, 12), noise(9, 12, 1)
    write(tmp_path / "train/a/1.png", picture)
    write(tmp_path / "train/b/2.png", gray)
    write(tmp_path / "val/a/1.webp", encoded(picture, "WEBP", lossless=True))
    write(tmp_path / "val/b/1.bmp", encoded(np.repeat(gray, 3, axis=2), "BMP"))
    names = [group.names for group in find_copies(checks_of(tmp_path)) if group.kind == "equal"]
    assert names == [("train/a/1.png", "val/a/1.webp"), ("train/b/2.png", "val/b/1.bmp")]


CHANGES = {
    "quality 85": lambda picture: encoded(picture, "JPEG", quality=85),
    "quality 40": lambda picture: encoded(picture, "JPEG", quality=40),
    "three quarters": lambda picture: encoded(picture.resize((48, 48)), "JPEG", quality=90),
    "another shape": lambda picture: encoded(picture.resize((96, 80)), "PNG"),
    "lighter": lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(1.3), "PNG"),
    "less contrast": lambda picture: encoded(ImageEnhance.Contrast(picture).enhance(0.6), "PNG"),
    "gray": lambda picture: encoded(picture.convert("L"), "PNG"),
}


def test_A31_A32_changed_copies_look_alike_and_others_do_not(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / f"train/{'ab'[number % 2]}/{number:02d}.png", scene(number))
    for number, (name, change) in enumerate(CHANGES.items()):
        write(tmp_path / f"val/{'ab'[number // 2 % 2]}/{name}.img", change(Image.fromarray(scene(number))))
    copies = find_copies(checks_of(tmp_path))
    assert {group.names for group in copies} == {
        (f"train/{'ab'[number % 2]}/{number:02d}.png", f"val/{'ab'[number // 2 % 2]}/{name}.img")
        for number, name in enumerate(CHANGES)
    }
    assert all(group.kind == "alike" and group.parts == ("train", "validation") for group in copies)
    assert {len(group.labels) for group in copies} == {1, 2}
    assert all(0.6 <= group.likeness <= 1 for group in copies)
    assert leaked(copies, "validation") == len(CHANGES)
    assert find_copies(checks_of(tmp_path), alike=False) == []


def test_equal_images_are_one_in_the_search_for_those_that_look_alike() -> None:
    original, other = scene(0), scene(1)
    changed = np.asarray(Image.fromarray(original).resize((40, 40)).resize((64, 64)))
    train = from_arrays(np.stack([original, original, other]), np.array([0, 0, 1]), ("a", "b"))
    held = from_arrays(np.stack([changed, scene(5)]), np.array([1, 1]), ("a", "b"), prefix="held")
    checks = [list(check_part(name, part, workers=1))[-1] for name, part in (("train", train), ("test", held))]
    assert [(group.kind, group.names) for group in find_copies(checks)] == [
        ("equal", ("image-00000", "image-00001")),
        ("alike", ("image-00000", "held-00000")),
    ]


def test_plain_pictures_are_not_called_alike() -> None:
    """Skies and sheets of paper: a slope of light, a little noise, and nothing to tell them by."""
    light = np.linspace(0, 1, 64)[None, :, None]
    random = np.random.default_rng(0)
    for slope, noise_level in ((1.0, 0.3), (60.0, 3.0)):
        skies = [200 - slope * (light + random.uniform(0, 0.3)) + random.normal(0, noise_level, (64, 64, 3))
                 for _ in range(80)]  # fmt: skip
        thumbnails = np.stack([thumbnail(np.uint8(np.clip(sky, 0, 255))) for sky in skies])
        assert len(look_alikes(thumbnails).first) == 0


def test_a_crowd_of_similar_pictures_holds_no_look_alikes_but_true_ones() -> None:
    """Clothes on white: one outline, a little of each one's own. A copy still stands out."""
    outline = np.zeros((28, 28, 1))
    outline[4:24, 8:20] = 200
    random = np.random.default_rng(1)
    own = [gaussian_filter(random.normal(size=(28, 28, 1)), (1, 1, 0)) * 120 for _ in range(200)]
    pictures = [np.uint8(np.clip(outline + part * (outline > 0), 0, 255)) for part in own]
    copied = np.asarray(Image.open(io.BytesIO(encoded(pictures[7], "JPEG", quality=80))))[..., None]
    found = look_alikes(np.stack([thumbnail(picture) for picture in [*pictures, copied]]))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(7, 200)]


def all_pairs(thumbnails: look_alike.Thumbnails) -> set[tuple[int, int]]:
    """The first three points of the rule, by numpy's own correlation of every pair."""
    found = set()
    for one, other in itertools.combinations(range(len(thumbnails)), 2):
        left, right = thumbnails[one].astype(float), thumbnails[other].astype(float)
        values = np.corrcoef(left.ravel(), right.ravel())[0, 1]
        slopes = [np.concatenate([np.diff(part, axis=axis).ravel() for axis in (0, 1)]) for part in (left, right)]
        cosine = slopes[0] @ slopes[1] / np.linalg.norm(slopes[0]) / np.linalg.norm(slopes[1])
        if min(left.std(), right.std()) >= 2 and values >= 0.88 and cosine >= 0.6:
            found.add((one, other))
    return found


def test_the_search_finds_what_comparing_all_pairs_finds() -> None:
    pictures = [scene(seed, 40) for seed in range(60)]
    random = np.random.default_rng(3)
    noisy = [np.uint8(np.clip(pictures[n] + random.normal(0, 3 * n, pictures[n].shape), 0, 255)) for n in range(12)]
    thumbnails = np.stack([thumbnail(picture) for picture in [*pictures, *noisy]])
    found = look_alikes(thumbnails)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == all_pairs(thumbnails)
    assert 5 <= len(pairs) <= 12
    assert (np.diff(found.likeness) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_pictures(count: int) -> None:
    thumbnails = np.stack([thumbnail(scene(0))] * count) if count else np.empty((0, 32, 32), dtype=np.uint8)
    assert len(look_alikes(thumbnails).first) == max(0, count - 1)


def test_unreadable_items_of_two_parts_are_no_copies() -> None:
    class Broken:
        targets = (0, 1)

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            raise OSError("broken")

    parts = open_given((Broken(), Broken()))
    assert parts.validation is not None
    both: Sequence[Any] = (("train", parts.train), ("validation", parts.validation))
    checks = [list(check_part(name, part, workers=1))[-1] for name, part in both]
    assert [len(check.faults) for check in checks] == [2, 2]
    assert find_copies(checks) == []


def test_the_digits_and_photos_do_not_drown(shared_data: Path) -> None:
    """Digits are much alike and hold no leak; the photos of Caltech-101 hold known near-duplicates."""
    digits = find_copies(checks_of("digits"))
    assert len(digits) <= 20 and all(len(group.labels) == 1 for group in digits)
    photos = {group.names: group for group in find_copies(checks_of(shared_data / "photos"))}
    assert ("train/grand_piano/image_0006.jpg", "train/grand_piano/image_0014.jpg") in photos
    assert ("train/grand_piano/image_0003.jpg", "val/grand_piano/image_0046.jpg") in photos
    assert len(photos) <= 15 and all(isinstance(group, Copies) and len(group.labels) == 1 for group in photos.values())
