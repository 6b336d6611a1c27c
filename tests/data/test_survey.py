"""The look at the headers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halftone.data import survey as room
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled, Subset
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays
from halftone.data.survey import survey
from pictures import encoded, noise, png, slope, write
from samples import stripes


def folder(root: Path, files: dict[str, Any]) -> Labelled:
    for name, picture in files.items():
        write(root / name, picture)
    return open_source(DataConfig(source=str(root))).train


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_survey_of_headers(tmp_path: Path, workers: int) -> None:
    source = folder(
        tmp_path,
        {"a/1.png": noise(10, 30), "a/2.png": noise(20, 12), "b/3.png": noise(40, 50, 1), "b/4.png": noise(14, 14)},
    )
    seen = survey(source, workers=workers)
    assert (seen.num_images, seen.num_seen, seen.complete) == (4, 4, True)
    assert seen.median_side == 13  # of 10, 12, 14 and 40
    assert seen.uniform is None
    assert seen.gray_share == 0.25
    assert seen.faults == ()


def test_a_uniform_set_is_seen_as_one(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a/1.png": noise(10, 30), "b/2.png": noise(10, 30)})
    assert survey(source, workers=1).uniform == (10, 30)


def test_A1_A4_A6_A16_A18_a_survey_names_what_a_header_shows(tmp_path: Path) -> None:
    source = folder(
        tmp_path,
        {
            "a/empty.jpg": b"",
            "a/header.jpg": encoded(slope(64, 64), "JPEG")[:30],
            "a/page.jpg": b"<html></html>",
            "b/bomb.png": png(20_000, 20_000),
            "b/good.png": noise(8, 9),
            "b/none.png": png(0, 0),
        },
    )
    seen = survey(source, workers=2)
    assert [fault.name for fault in seen.faults] == [
        "a/empty.jpg",
        "a/header.jpg",
        "a/page.jpg",
        "b/bomb.png",
        "b/none.png",
    ]
    assert [fault.index for fault in seen.faults] == [0, 1, 2, 3, 5]
    assert all(fault.reason for fault in seen.faults)
    assert seen.uniform == (8, 9)


def test_a_set_without_a_readable_header(tmp_path: Path) -> None:
    seen = survey(folder(tmp_path, {"a/1.jpg": b"", "b/2.jpg": b"text"}), workers=1)
    assert (seen.median_side, seen.uniform, seen.gray_share, len(seen.faults)) == (0, None, 0.0, 2)


def test_a_large_set_is_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_AT_MOST", 10)
    monkeypatch.setattr(room, "SAMPLE", 4)
    source = folder(tmp_path, {f"{'ab'[number % 2]}/{number}.png": noise(3 + number, 40) for number in range(13)})
    seen = survey(source, workers=1)
    assert (seen.num_images, seen.num_seen, seen.complete) == (13, 4, False)
    assert seen.median_side == int(np.median([source.look(index).height for index in (0, 4, 8, 12)]))
    few = survey(Subset(source, np.arange(10)), workers=1)
    assert (few.num_seen, few.complete) == (10, True)


def test_images_in_memory_need_one_look() -> None:
    source = from_arrays(*stripes(9, size=6, channels=1))
    for part in (source, Subset(source, np.arange(3, 8))):
        seen = survey(part, workers=1)
        assert (seen.num_seen, seen.complete) == (len(part.labels), True)
        assert (seen.uniform, seen.median_side, seen.gray_share) == ((6, 6), 6, 1.0)


def test_A7_A13_files_that_are_not_what_they_seem_are_named(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    files = {
        "a/1.jpg": encoded(noise(8, 8)),
        "a/2.png": noise(8, 8, seed=1),
        "b/3.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "b/4.jpg": encoded(noise(8, 8, seed=2), "JPEG"),
    }
    seen = survey(folder(tmp_path, files), workers=1)
    assert (seen.renamed, seen.animated) == (("a/1.jpg",), ("b/3.gif",))
