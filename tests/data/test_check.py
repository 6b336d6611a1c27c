"""The full look at every image: what is broken, what is suspicious, what is noted."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halftone.base.inputs import InputSpec
from halftone.data.check import PartCheck, check_part, decode_faults
from halftone.data.config import DataConfig
from halftone.data.cut import cut
from halftone.data.examine import examine
from halftone.data.labelled import Labelled, Parts, Subset
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays
from pictures import encoded, noise, png, slope, write
from samples import stripes


def opened(root: Path, files: dict[str, Any]) -> Parts:
    for name, picture in files.items():
        write(root / name, picture)
    return open_source(DataConfig(source=str(root)))


def folder(root: Path, files: dict[str, Any]) -> Labelled:
    return opened(root, files).train


def checked(source: Labelled, *, workers: int = 2) -> PartCheck:
    *_, check = check_part("train", source, workers=workers)
    return check


def rotten(data: bytes, *, seed: int) -> bytes:
    """Bytes in the middle of the compressed picture overwritten by others."""
    place = int(len(data) * 0.6)
    other = np.random.default_rng(seed).integers(0, 255, 12, dtype=np.uint8).tobytes()
    return data[:place] + other + data[place + 12 :]


def test_A2_A3_only_the_full_look_finds_cut_files(tmp_path: Path) -> None:
    whole = encoded(noise(64, 48), "JPEG")
    source = folder(
        tmp_path,
        {
            "a/1.jpg": whole,
            "a/2.jpg": whole[: len(whole) // 2],
            "b/3.png": encoded(noise(40, 40))[:-2000],
            "b/4.png": noise(16, 20, 1),
            "b/5.png": np.repeat(noise(4, 4, 1), 3, axis=2),
        },
    )
    accounts = [account.num_images for account in check_part("train", source, workers=2)]
    assert accounts == [1, 2, 3, 4, 5]  # one after each image, so that progress can be shown
    check = checked(source)
    assert (check.part, check.num_images, check.num_gray) == ("train", 5, 2)
    assert [fault.name for fault in check.faults] == ["a/2.jpg", "b/3.png"]
    assert check.sides.tolist() == [[64, 48], [0, 0], [0, 0], [16, 20], [4, 4]]
    assert check.readable.tolist() == [True, False, False, True, True]
    assert check.per_class == {"a": 2, "b": 3}
    assert (check.kinds, check.modes) == ({"JPEG": 1, "PNG": 2}, {"RGB": 2, "L": 1})
    assert decode_faults(source, workers=1) == tuple(check.faults)


def test_images_in_memory_have_no_faults() -> None:
    source = from_arrays(*stripes(6, size=4))
    assert decode_faults(source, workers=1) == ()
    check = checked(Subset(source, np.array([0, 1, 3])), workers=0)
    assert check.per_class == {"0": 2, "1": 1, "2": 0}
    assert check.sides.tolist() == [[4, 4]] * 3
    assert (check.kinds, check.modes) == ({}, {"RGB": 3})


def test_A5_rot_that_decodes_with_a_complaint_is_suspicious(tmp_path: Path) -> None:
    """What libjpeg-turbo complains of is named; rot that makes another sound picture cannot be seen without a hash."""
    whole = encoded(Image.fromarray(noise(96, 96)), "JPEG", quality=90)
    files = {f"a/{seed}.jpg": rotten(whole, seed=seed) for seed in range(12)} | {"b/whole.jpg": whole}
    check = checked(folder(tmp_path, files))
    named = {fault.name: fault.reason for fault in (*check.suspects, *check.faults)}
    assert "b/whole.jpg" not in named
    assert len(check.suspects) >= 6
    assert all("Corrupt JPEG data" in fault.reason for fault in check.suspects)
    assert check.readable.sum() == 13 - len(check.faults)  # suspicious is not unreadable


def test_A7_another_format_than_the_name_says_is_noted(tmp_path: Path) -> None:
    files = {"a/1.jpg": encoded(noise(8, 8), "PNG"), "a/2.png": noise(8, 9), "b/3.JPEG": encoded(noise(9, 9), "JPEG")}
    check = checked(folder(tmp_path, files))
    assert [(fault.name, fault.reason) for fault in check.renamed] == [("a/1.jpg", "it is PNG, not JPEG")]
    assert not check.faults and not check.suspects


def test_A13_several_frames_are_noted(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    moving = {
        kind: encoded(frames[0], kind, save_all=True, append_images=frames[1:]) for kind in ("GIF", "WEBP", "PNG")
    }
    files = {f"a/moving.{kind.lower()}": data for kind, data in moving.items()}
    check = checked(folder(tmp_path, files | {"b/still.gif": encoded(frames[0], "GIF")}))
    assert [fault.name for fault in check.animated] == ["a/moving.gif", "a/moving.png", "a/moving.webp"]


def test_A22_what_leads_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a/1.png")
    write(tmp_path / "b/2.png")
    (tmp_path / "a/gone.jpg").symlink_to("elsewhere.jpg")
    (tmp_path / "b/notes.txt").write_text("by hand")
    os.mkfifo(tmp_path / "b/pipe.png")
    parts = open_source(DataConfig(source=str(tmp_path)))
    assert {(other.name, other.reason, other.meant) for other in parts.left_out} == {
        ("a/gone.jpg", "a link to elsewhere.jpg, which is not there", True),
        ("b/pipe.png", "not a regular file", True),
        ("b/notes.txt", "not an image, by its name and its start", False),
    }
    assert len(parts.train.labels) == 2


def test_what_is_examined_is_what_training_sees(tmp_path: Path) -> None:
    """The pixels that are judged are those that the network gets, whichever decoder they come from."""
    tag = Image.Exif()
    tag[0x0112] = 6
    scene = Image.fromarray(slope(24, 24))
    files: dict[str, Any] = {
        "a/plain.jpg": encoded(scene, "JPEG"),
        "a/turned.jpg": encoded(scene, "JPEG", exif=tag),
        "a/progressive.jpg": encoded(scene, "JPEG", progressive=True),
        "b/cmyk.jpg": encoded(scene.convert("CMYK"), "JPEG"),
        "b/gray.jpg": encoded(scene.convert("L"), "JPEG"),
        "b/deep.png": png(24, 24, bits=16, rows=b"".join(b"\0" + bytes([row * 9, 7] * 24) for row in range(24))),
    }
    source = folder(tmp_path, files)
    spec = InputSpec(size=24, mean=(0.5,) * 3, std=(0.2,) * 3)
    for index in range(len(files)):
        found = examine(source, index)
        assert (np.broadcast_to(found.pixels, (24, 24, 3)) == cut(source, index, spec)).all(), source.name(index)
        assert found.complaint == ""
    assert [examine(source, index).mode for index in range(3, 6)] == ["CMYK", "I;16", "L"]


@pytest.mark.parametrize("workers", [0, 3])
def test_the_look_does_not_depend_on_the_threads(tmp_path: Path, workers: int) -> None:
    source = folder(tmp_path, {f"{'ab'[n % 2]}/{n}.png": noise(6 + n, 8, seed=n) for n in range(40)})
    check, other = checked(source, workers=workers), checked(source, workers=1)
    assert check.digests == other.digests
    assert (check.thumbnails == other.thumbnails).all()
