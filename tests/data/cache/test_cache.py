"""The cache of decoded pictures: it changes no pixel, whatever becomes of it."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halftone.base.inputs import InputSpec
from halftone.data.cache import disk, place
from halftone.data.cache.disk import DiskStore
from halftone.data.cache.kept import KeptPictures, kept_bytes, kept_side
from halftone.data.cache.memory import MemoryStore
from halftone.data.cache.open import open_cache
from halftone.data.cache.place import KEPT_DAYS, folder_for, hold, identity, make_room
from halftone.data.config import DataConfig
from halftone.data.fit import fit
from halftone.data.labelled import Labelled, Pixels, Relabelled, Subset
from halftone.data.open import open_source
from halftone.data.order import epoch_order
from halftone.data.streaming import RandomBox, StreamingFeed
from pictures import encoded, noise, slope, write

CPU = torch.device("cpu")
SPEC = InputSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
AREA = (0.35, 1.0)
KINDS = ("ram", "disk")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


@pytest.fixture
def photos(tmp_path: Path) -> Labelled:
    """20 pictures of two classes, of different sizes, some gray, some not JPEG."""
    return open_source(DataConfig(source=str(fill(tmp_path / "photos")))).train


def fill(root: Path) -> Path:
    for number in range(20):
        picture = np.clip(slope(40 + number, 90 - number) // 2 + noise(40 + number, 90 - number) // 8, 0, 255)
        content = encoded(
            picture[:, :, : 1 if number % 7 == 0 else 3].astype(np.uint8), "PNG" if number % 5 == 0 else "JPEG"
        )
        write(root / "ab"[number % 2] / f"{number:02d}.jpg", content)
    return root


def opened(kind: Any, source: Labelled, **options: Any) -> KeptPictures:
    return open_cache(kind, source, SPEC, options.pop("area", AREA), free_memory=options.pop("free_memory", 1 << 24))


def epoch(
    source: Labelled, kept: KeptPictures | None, number: int, *, area: Any = AREA, workers: int = 2
) -> torch.Tensor:
    box = None if area is None else RandomBox(area, seed=3)
    feed = StreamingFeed(source, SPEC, CPU, workers=workers, box=box, kept=kept)
    order = epoch_order(len(source.labels), seed=0, epoch=number)
    return torch.cat([batch.images for batch in feed.batches(order, 6, epoch=number)])


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("pictures.bin"))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", KINDS)
def test_filling_reading_and_having_none_give_the_same_pixels(photos: Labelled, kind: str) -> None:
    kept = opened(kind, photos)
    first = [epoch(photos, kept, number) for number in (0, 1)]  # the second is read back
    again = opened(kind, photos)  # on disk, all is there; in memory, nothing
    nothing = opened("ram", photos, free_memory=0)
    for number in (0, 1):
        assert torch.equal(epoch(photos, again, number, workers=0), first[number])
        assert torch.equal(epoch(photos, nothing, number), first[number])
    assert kept.remarks() == again.remarks() == []
    assert nothing.remarks() == ["the cache of pictures is full at 0 MB of memory: 40 pictures were decoded instead"]
    assert nothing.remarks() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_read_without_its_file(photos: Labelled, cache: Path, tmp_path: Path, kind: str) -> None:
    kept = opened(kind, photos)
    first = epoch(photos, kept, 0)
    for file in (tmp_path / "photos").rglob("*.jpg"):
        file.unlink()
    assert torch.equal(epoch(photos, kept, 0), first)
    assert len(files(cache)) == (kind == "disk")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", KINDS)
def test_without_random_crops_the_pixels_are_those_without_a_cache(photos: Labelled, kind: str) -> None:
    plain = epoch(photos, None, 1, area=None)
    kept = opened(kind, photos, area=None)
    for _ in range(2):
        assert torch.equal(epoch(photos, kept, 1, area=None), plain)


@pytest.mark.usefixtures("cache")
def test_crops_from_kept_pictures_are_like_those_from_whole_ones(photos: Labelled) -> None:
    kept = epoch(photos, opened("ram", photos), 0).float()
    whole = epoch(photos, None, 0).float()
    assert (kept - whole).abs().mean() < 4
    assert not torch.equal(kept, whole)


def test_how_large_a_kept_picture_is() -> None:
    assert kept_side(224, None) is None
    assert kept_side(224, (0.35, 1.0)) == 379
    assert kept_side(224, (0.08, 1.0)) == 390
    assert kept_side(224, (1.0, 1.0)) == 224
    spec = SPEC.replaced(size=224)
    assert kept_bytes(10, 600, 800, spec=spec, side=273) == 10 * 273 * 364 * 3
    assert kept_bytes(10, 300, 400, spec=spec, side=273) == 10 * 300 * 400 * 3
    assert kept_bytes(10, 200, 300, spec=spec, side=273) == 10 * 200 * 300 * 3
    assert kept_bytes(10, 375, 500, spec=spec, side=None) == 10 * 224 * 224 * 3


@pytest.mark.usefixtures("cache")
def test_a_part_of_a_set_shares_the_pictures_of_the_whole(photos: Labelled) -> None:
    epoch(photos, opened("disk", photos), 0)
    part = Relabelled(Subset(Subset(photos, np.arange(20)[::-1].copy()), np.array([4, 2, 7])), ("a", "b"))
    kept = opened("disk", part)
    for file in Path(photos.root).rglob("*.jpg"):  # type: ignore[attr-defined]
        file.unlink()
    expected = [kept.cut(index, None) for index in range(3)]
    assert [picture.shape[2] for picture in expected] == [3, 3, 3]
    assert kept.remarks() == []


def store(folder: Path, **options: int) -> DiskStore:
    return DiskStore(folder, 10, options.get("most", 1 << 20), hold(folder))


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    pictures = {number: noise(3 + number, 9, 1 if number % 2 else 3, seed=number) for number in range(5)}
    ours = store(tmp_path)
    for number, picture in pictures.items():
        assert ours.shape(number) is None
        assert ours.rows(number, 0, 1) is None
        ours.put(number, picture)
    for reader in (ours, store(tmp_path)):
        for number, picture in pictures.items():
            assert reader.shape(number) == picture.shape
            for top, bottom in ((0, picture.shape[0]), (1, 3), (2, 3)):
                assert (found(reader, number, top, bottom) == picture[top:bottom]).all()
    assert ours.shape(9) is None


def found(reader: DiskStore, number: int, top: int, bottom: int) -> Pixels:
    rows = reader.rows(number, top, bottom)
    assert rows is not None
    return rows


def test_one_process_fills_and_another_goes_on_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_ASK_AGAIN", 2)
    one, other = store(tmp_path), store(tmp_path)
    one.put(0, noise(4, 4))
    other.put(1, noise(5, 5))
    assert other.shape(0) == (4, 4, 3)
    assert other.shape(1) is one.shape(1) is None
    one.close()
    for _ in range(2):
        other.put(1, noise(5, 5))
    assert (found(other, 1, 0, 5) == noise(5, 5)).all()
    assert (found(other, 0, 0, 4) == noise(4, 4)).all()


def test_damage_is_noticed_counted_and_decoded_around(tmp_path: Path) -> None:
    ours = store(tmp_path)
    for number in range(3):
        ours.put(number, noise(6, 6, seed=number))
    ours.close()
    with (tmp_path / "pictures.bin").open("r+b") as file:
        file.seek(6 * 6 * 3 + 5)
        file.write(b"\x00\xff")
        file.truncate(3 * 6 * 6 * 3 - 1)
    reader = store(tmp_path)
    assert (found(reader, 0, 0, 6) == noise(6, 6)).all()
    assert reader.rows(1, 0, 6) is None
    assert reader.rows(2, 0, 2) is None
    assert reader.remarks() == ["2 pictures of the cache could not be read back and were decoded instead"]
    reader.put(1, noise(6, 6, seed=1))
    assert reader.rows(1, 0, 6) is None
    assert reader.remarks()[0].startswith("the cache of pictures grows no further: its file was made shorter")


def test_a_picture_that_rotted_is_written_anew(tmp_path: Path) -> None:
    ours = store(tmp_path)
    for number in range(2):
        ours.put(number, noise(6, 6, seed=number))
    ours.close()
    with (tmp_path / "pictures.bin").open("r+b") as file:
        file.write(b"\x00\xff\x01")
    reader = store(tmp_path)
    assert reader.rows(0, 0, 6) is None
    reader.put(0, noise(6, 6, seed=0))
    for again in (reader, store(tmp_path)):
        for number in range(2):
            assert (found(again, number, 0, 6) == noise(6, 6, seed=number)).all()


def test_a_file_that_shrinks_under_a_run_is_decoded_around(photos: Labelled, cache: Path) -> None:
    kept = opened("disk", photos)
    first = epoch(photos, kept, 0)
    (file,) = files(cache)
    os.truncate(file, 100)
    assert torch.equal(epoch(photos, kept, 0), first)
    assert any("could not be read back" in remark for remark in kept.remarks())


def test_a_folder_that_is_deleted_under_a_run_harms_nothing(photos: Labelled, cache: Path) -> None:
    kept = opened("disk", photos)
    first = epoch(photos, kept, 0)
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert torch.equal(epoch(photos, kept, 0), first)


@pytest.mark.parametrize("full", ["bound", "disk"])
def test_a_full_disk_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    ours = store(tmp_path, most=150 if full == "bound" else 1 << 20)
    ours.put(0, noise(6, 6))
    if full == "disk":

        def refuse(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", refuse)
    for number in range(1, 4):
        ours.put(number, noise(6, 6))
    (remark,) = ours.remarks()
    assert "grows no further: no" in remark.lower()
    assert ours.remarks() == []
    assert ours.shape(1) is None
    assert (found(ours, 0, 0, 6) == noise(6, 6)).all()


def test_a_place_that_cannot_be_written_is_said_and_training_goes_on(
    photos: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path / "file"))
    kept = opened("disk", photos)
    assert torch.equal(epoch(photos, kept, 0), epoch(photos, opened("ram", photos), 0))
    (remark,) = kept.remarks()
    assert "HALFTONE_CACHE names another place" in remark


def test_changed_files_have_another_cache(photos: Labelled, tmp_path: Path) -> None:
    before = identity(photos)
    assert before is not None
    assert identity(Subset(photos, np.array([3]))) == before
    file = next((tmp_path / "photos" / "a").iterdir())
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert identity(photos) != before
    assert identity(open_source(DataConfig(source="digits")).train) is None
    assert len({folder_for("x", 1), folder_for("x", 2), folder_for("y", 1)}) == 3


def sized(folder: Path, num_bytes: int, days: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "used").touch()
    (folder / "pictures.bin").write_bytes(bytes(num_bytes))
    moment = time.time() - days * 86400
    os.utime(folder / "used", (moment, moment))
    return folder


def test_the_least_recently_used_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = 1 << 20
    old, held, new = (sized(tmp_path / name, 4 * block, days) for name, days in (("old", 9), ("held", 8), ("new", 1)))
    descriptor = os.open(held / "used", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 20 * block}))
    monkeypatch.setattr(place, "LEAST_FREE", 0)
    assert make_room(own, 3 * block) == pytest.approx(4 * block, abs=block // 8)  # half of 32, less 12
    assert old.exists()
    make_room(own, 7 * block)
    assert (old.exists(), held.exists(), new.exists()) == (False, True, True)
    make_room(own, 13 * block)
    assert (held.exists(), new.exists()) == (True, False)
    os.close(descriptor)
    moment = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(held / "used", (moment, moment))
    make_room(own, 0)
    assert not held.exists()


FILLS = """
import sys, torch
from halftone.base.inputs import InputSpec
from halftone.data.cache.open import open_cache
from halftone.data.config import DataConfig
from halftone.data.open import open_source
from halftone.data.order import epoch_order
from halftone.data.streaming import RandomBox, StreamingFeed
source = open_source(DataConfig(source=sys.argv[1])).train
spec = InputSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
kept = open_cache("disk", source, spec, (0.35, 1.0), free_memory=1 << 24)
feed = StreamingFeed(source, spec, torch.device("cpu"), workers=1, box=RandomBox((0.35, 1.0), 3), kept=kept)
for epoch in range(int(sys.argv[2])):
    for batch in feed.batches(epoch_order(20, seed=0, epoch=epoch), 2, epoch=epoch):
        print("batch", flush=True)
"""


@pytest.mark.usefixtures("cache")
def test_two_processes_share_a_cache_and_one_that_is_killed_leaves_it_whole(photos: Labelled, tmp_path: Path) -> None:
    expected = epoch(photos, opened("ram", photos), 0)

    def start(epochs: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", FILLS, str(tmp_path / "photos"), str(epochs)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    filling, other = start(100_000), start(3)
    assert filling.stdout is not None
    filling.stdout.readline()
    filling.send_signal(signal.SIGKILL)
    filling.wait()
    filling.stdout.close()
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    assert output.count(b"batch") == 30
    kept = opened("disk", photos)
    for _ in range(2):
        assert torch.equal(epoch(photos, kept, 0), expected)
    assert kept.remarks() == []


@pytest.mark.usefixtures("cache")
def test_what_is_kept_is_fitted_as_any_picture(photos: Labelled) -> None:
    kept = opened("disk", photos)
    box = RandomBox(AREA, seed=1)

    def choose(height: int, width: int) -> Any:
        return box.draw(height, width, epoch=0, position=7)

    first = kept.cut(3, choose)
    reader: Any = kept._store
    height, width, _ = reader.shape(3)
    assert min(height, width) == kept_side(16, AREA)
    assert (first == fit(found(reader, 3, 0, height), SPEC, choose(height, width))).all()
    assert (first == kept.cut(3, choose)).all()


def test_memory_is_bounded() -> None:
    ours = MemoryStore(200)
    for number in range(3):
        ours.put(number, noise(6, 6, seed=number))
    assert ours.shape(0) == (6, 6, 3)
    assert ours.shape(1) is None
    assert (ours.rows(0, 2, 4) == noise(6, 6)[2:4]).all()
    assert len(ours.remarks()) == 1
