"""The two feeds: the same images in any order asked for, with any number of threads, from any point of an epoch."""

import re
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halftone.base.errors import UnreadableImage
from halftone.base.inputs import InputSpec
from halftone.data import streaming
from halftone.data.config import DataConfig
from halftone.data.feed import Batch, Feed
from halftone.data.fit import fit
from halftone.data.labelled import Labelled, Subset
from halftone.data.open import open_source
from halftone.data.order import epoch_order
from halftone.data.sources.arrays import ArrayImages, from_arrays
from halftone.data.sources.dataset import DatasetImages
from halftone.data.streaming import AHEAD, RandomBox, StreamingFeed, decode_all
from pictures import encoded, noise, write
from samples import stripes, write_folder

CPU = torch.device("cpu")
SPEC = InputSpec(size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
GRAY = InputSpec(size=8, channels=1, mean=(0.5,), std=(0.25,))
BOX = RandomBox((0.2, 1.0), seed=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """21 pictures of different sizes in three classes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(21):
        write(
            root / "abc"[number % 3] / f"{number:02d}.png", noise(9 + number, 30 - number, 1 if number % 5 == 0 else 3)
        )
    return open_source(DataConfig(source=str(root))).train


def gathered(feed: Feed, order: Any, size: int = 4, **options: Any) -> list[Batch]:
    return list(feed.batches(np.asarray(order), size, **options))


def images(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize("spec", [SPEC, GRAY])
def test_resident_and_streaming_give_the_pixels_of_prediction(photos: Labelled, spec: InputSpec) -> None:
    order = epoch_order(21, seed=0, epoch=0)
    resident = gathered(decode_all(photos, spec, CPU, workers=2), order)
    streamed = gathered(StreamingFeed(photos, spec, CPU, workers=1), order)
    assert [len(batch.labels) for batch in resident] == [4, 4, 4, 4, 4, 1]
    for one, other, start in zip(resident, streamed, range(0, 21, 4), strict=True):
        indices = order[start : start + 4]
        expected = np.stack([fit(photos.pixels(index), spec) for index in indices])
        for batch in (one, other):
            assert (batch.images.permute(0, 2, 3, 1).numpy() == expected).all()
            assert (batch.labels.numpy() == photos.labels[indices]).all()
            assert (batch.indices == indices).all()
            assert batch.faults == ()
            assert batch.images.dtype == torch.uint8
            assert batch.labels.dtype == torch.int64
            assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("epoch", [None, 0, 7])
def test_the_number_of_threads_changes_nothing(photos: Labelled, epoch: int | None) -> None:
    order = epoch_order(21, seed=1, epoch=0)
    runs = [
        gathered(StreamingFeed(photos, SPEC, CPU, workers=workers, box=BOX), order, 3, epoch=epoch)
        for workers in (0, 1, 2, 5)
    ]
    for run in runs[1:]:
        assert torch.equal(images(run), images(runs[0]))
        assert all((one.indices == other.indices).all() for one, other in zip(run, runs[0], strict=True))


def test_random_boxes_depend_on_seed_epoch_and_position_alone(photos: Labelled) -> None:
    order = np.arange(21)
    whole = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=0, box=BOX), order, 4, epoch=2))
    again = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=2, box=BOX), order, 21, epoch=2))
    assert torch.equal(whole, again)
    other_epoch = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=0, box=BOX), order, 4, epoch=3))
    other_seed = images(
        gathered(StreamingFeed(photos, SPEC, CPU, workers=0, box=RandomBox(BOX.area, 4)), order, 4, epoch=2)
    )
    evaluation = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=0, box=BOX), order, 4))
    plain = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=0), order, 4, epoch=2))
    for other in (other_epoch, other_seed, evaluation):
        assert not torch.equal(whole, other)
    assert torch.equal(evaluation, plain)
    twice = images(gathered(StreamingFeed(photos, SPEC, CPU, workers=0, box=BOX), [5, 5], 2, epoch=2))
    assert not torch.equal(twice[0], twice[1])  # a balanced order draws an image again, but not the same crop


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches_done", [1, 3, 5])
def test_an_epoch_goes_on_from_its_middle(photos: Labelled, workers: int, batches_done: int) -> None:
    order = epoch_order(21, seed=0, epoch=4)
    first = batches_done * 4
    for feed in (StreamingFeed(photos, SPEC, CPU, workers=workers, box=BOX), decode_all(photos, SPEC, CPU, workers=1)):
        whole = gathered(feed, order, 4, epoch=4)
        rest = gathered(feed, order[first:], 4, epoch=4, first=first)
        assert torch.equal(images(rest), images(whole[batches_done:]))
        assert [batch.labels.tolist() for batch in rest] == [batch.labels.tolist() for batch in whole[batches_done:]]


@pytest.mark.parametrize("kind", ["streaming-0", "streaming-2", "resident"])
def test_A2_A34_A36_unreadable_files_are_dropped_named_and_counted(tmp_path: Path, kind: str) -> None:
    for number in range(8):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", noise(12, 12, seed=number))
    source = open_source(DataConfig(source=str(tmp_path))).train
    write(tmp_path / "a" / "2.png", encoded(noise(40, 40))[:-2000])
    (tmp_path / "b" / "5.png").unlink()
    write(tmp_path / "b" / "7.png", b"")
    order = np.array([1, 0, 6, 7, 5, 4, 2, 3])  # files a/2, a/0, b/5, b/7, b/3, b/1, a/4, a/6
    feed: Feed
    if kind == "resident":
        feed = decode_all(source, SPEC, CPU, workers=1)
    else:
        feed = StreamingFeed(source, SPEC, CPU, workers=int(kind[-1]))
    for _ in range(2):
        batches = gathered(feed, order, 2)
        named = [[(fault.index, fault.name) for fault in batch.faults] for batch in batches]
        assert named == [[(1, "a/2.png")], [(6, "b/5.png"), (7, "b/7.png")], [], []]
        assert [batch.indices.tolist() for batch in batches] == [[0], [], [5, 4], [2, 3]]
        assert [batch.labels.tolist() for batch in batches] == [[0], [], [1, 1], [0, 0]]
        assert [len(batch.images) for batch in batches] == [1, 0, 2, 2]
        assert (batches[0].images[0].permute(1, 2, 0).numpy() == fit(source.pixels(0), SPEC)).all()
        assert batches[1].faults[0].reason == "No such file or directory"
        assert batches[1].faults[1].reason == "the file is empty"


def test_A34_a_file_that_vanishes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "ab"[number % 2] / f"{number:02d}.png", noise(10, 10, seed=number))
    source = open_source(DataConfig(source=str(tmp_path))).train
    running = StreamingFeed(source, SPEC, CPU, workers=0).batches(np.arange(12), 3)
    assert next(running).faults == ()
    for index in (3, 11):
        (tmp_path / source.name(index)).unlink()
    rest = list(running)
    assert [fault.index for batch in rest for fault in batch.faults] == [3, 11]
    assert sum(len(batch.labels) for batch in rest) == 7


def test_D12_a_fault_of_the_program_reaches_the_caller_and_names_the_image() -> None:
    """From a thread or not, at once, and no thread stays behind."""

    class Broken(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise AttributeError("typo")

    source = DatasetImages(Broken([1, 2]), np.zeros(2, dtype=np.int64), ("a",))
    for workers in (0, 2):
        with pytest.raises(AttributeError, match="typo") as caught:
            gathered(StreamingFeed(source, SPEC, CPU, workers=workers), [0, 1])
        assert caught.value.__notes__ == ["while reading item-00000"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_D12_a_fault_of_the_program_is_named_with_its_image_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from halftone.cli.main import main

    def broken(*_: Any) -> Any:
        raise AttributeError("typo")

    write_folder(tmp_path / "set", train=24, val=6)
    monkeypatch.setattr(streaming, "cut", broken)
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "cnn", "--data.feed", "streaming", "--data.cache", "off", "--lr", "0.1", "--precision", "fp32"]
    assert main(["train", "set", *flags, "--batch-size", "4", "--warmup", "0it"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"error: AttributeError: typo \(while reading (train|val)/(across|aslant|down)/\d+\.png\)", said)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has open")
def test_D11_D13_decoding_starts_no_process_and_takes_no_shared_memory(photos: Labelled) -> None:
    """So there is no worker that could be killed alone, and no /dev/shm that could be too small."""

    def children() -> str:
        return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))

    def shared() -> list[str]:  # what other tests' libraries have mapped stays mapped
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm" in line]

    before, decoding = (children(), shared()), set[str]()
    for _ in StreamingFeed(photos, SPEC, CPU, workers=2).batches(np.arange(21), 3):
        decoding |= {thread.name for thread in threading.enumerate() if thread.name.startswith("decode")}
        assert (children(), shared()) == before
    assert len(decoding) == 2


def test_a_feed_that_is_left_stops_its_threads(photos: Labelled) -> None:
    decoded: list[int] = []

    class Counted:
        labels, classes, array = np.zeros(200, dtype=np.int64), ("a",), None

        def encoded(self, index: int) -> None:
            return None

        def name(self, index: int) -> str:
            return str(index)

        def pixels(self, index: int) -> Any:
            decoded.append(index)
            return photos.pixels(index % 21)

    source: Any = Counted()
    running = StreamingFeed(source, SPEC, CPU, workers=2).batches(np.arange(200), 5)
    assert len(list(islice(running, 2))) == 2
    running.close()  # type: ignore[attr-defined]
    assert len(decoded) <= 5 * (2 + AHEAD + 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (3, 40), (40, 3)])
def test_A19_pictures_smaller_than_the_crop_are_enlarged(tmp_path: Path, shape: tuple[int, int]) -> None:
    """By the rule of all others, in training and in evaluation: never padded, never refused."""
    for number in range(4):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", noise(*shape, seed=number))
    source = open_source(DataConfig(source=str(tmp_path))).train
    large = SPEC.replaced(size=32)
    for epoch in (None, 0, 1):
        feed = StreamingFeed(source, large, CPU, workers=1, box=RandomBox((0.2, 1.0), 3))
        (batch,) = feed.batches(np.arange(4), 4, epoch=epoch)
        assert not batch.faults
        assert batch.images.shape == (4, 3, 32, 32)
        whole = [source.pixels(index) for index in range(4)]
        for image, picture in zip(batch.images.numpy(), whole, strict=True):
            assert picture.min() <= image.min() and image.max() <= picture.max()  # nothing was added


def test_images_in_memory_are_kept_as_they_are() -> None:
    pixels, labels = stripes(9, size=8)
    source = from_arrays(pixels, labels)
    feed = decode_all(source, SPEC, CPU, workers=1)
    assert (images(gathered(feed, np.arange(9))).permute(0, 2, 3, 1).numpy() == pixels).all()
    part = decode_all(Subset(source, np.array([4, 2])), SPEC, CPU, workers=1)
    assert (images(gathered(part, [0, 1])).permute(0, 2, 3, 1).numpy() == pixels[[4, 2]]).all()


@pytest.mark.parametrize(
    "spec",
    [
        GRAY,
        SPEC.replaced(crop=0.5),
        SPEC.replaced(size=12),
        SPEC.replaced(size=5),
        SPEC.replaced(crop=0.5, fit="squash"),
    ],
)
def test_images_in_memory_are_fitted_as_prediction_does(spec: InputSpec) -> None:
    source = from_arrays(*stripes(9, size=8))
    expected = np.stack([fit(source.pixels(index), spec) for index in range(9)])
    for feed in (decode_all(source, spec, CPU, workers=1), StreamingFeed(source, spec, CPU, workers=0)):
        assert (images(gathered(feed, np.arange(9))).permute(0, 2, 3, 1).numpy() == expected).all()


def test_no_images_make_no_batches(photos: Labelled) -> None:
    for feed in (decode_all(photos, SPEC, CPU, workers=1), StreamingFeed(photos, SPEC, CPU, workers=2)):
        assert gathered(feed, np.array([], dtype=np.int64)) == []


@settings(max_examples=150)
@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0.05, 1), st.integers(0, 2**40), st.integers(0, 10**6))
def test_a_random_box_lies_in_the_picture(height: int, width: int, low: float, seed: int, position: int) -> None:
    box = RandomBox((low, 1.0), seed).draw(height, width, epoch=1, position=position)
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height
    assert box == RandomBox((low, 1.0), seed).draw(height, width, epoch=1, position=position)
    if height * width < 10**4:
        fit(np.zeros((height, width, 3), dtype=np.uint8), SPEC, box)


def test_random_boxes_have_the_distribution_of_the_paper() -> None:
    boxes = [RandomBox((0.25, 0.5), 0).draw(1000, 1000, epoch=0, position=position) for position in range(3000)]
    width, height = (np.array([(box.right - box.left, box.bottom - box.top) for box in boxes])).T
    area, ratio = width * height / 1000**2, width / height
    assert 0.249 <= area.min() < 0.26  # of whole pixels
    assert 0.49 < area.max() <= 0.501
    assert abs(area.mean() - 0.375) < 0.007  # a deviation of 0.072, three of the mean of 3000
    assert 0.748 <= ratio.min() < 0.76
    assert 1.32 < ratio.max() <= 1.337
    assert abs(np.log(ratio).mean()) < 0.01
    middle_x = np.array([(box.left + box.right) / 2 for box in boxes])
    assert abs(middle_x.mean() - 500) < 10


def test_a_box_that_never_fits_becomes_the_middle() -> None:
    box = RandomBox((1.0, 1.0), 0).draw(10, 1000, epoch=0, position=0)
    assert (box.left, box.top, box.right, box.bottom) == (495, 0, 505, 10)


def test_unreadable_images_of_a_set_in_memory_stay_in_their_places() -> None:
    class Holes(ArrayImages):
        """Images of another size than the network's, one of them missing."""

        @property
        def array(self) -> Any:
            return None

        def pixels(self, index: int) -> Any:
            if index == 1:
                raise UnreadableImage("gone")
            return self.images[index]

    pixels, labels = stripes(4, size=8)
    feed = decode_all(Holes(pixels, labels, ("0", "1", "2")), SPEC, CPU, workers=0)
    (batch,) = gathered(feed, [3, 1, 0], 3)
    assert batch.indices.tolist() == [3, 0]
    assert [(fault.index, fault.reason) for fault in batch.faults] == [(1, "gone")]
    assert (batch.images.permute(0, 2, 3, 1).numpy() == pixels[[3, 0]]).all()
