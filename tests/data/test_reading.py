"""Threads that read: order, faults, and a read that never ends."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halftone.base.errors import ResourceError
from halftone.base.inputs import InputSpec
from halftone.data.check import check_part, decode_faults
from halftone.data.config import DataConfig
from halftone.data.labelled import Labelled
from halftone.data.open import open_source
from halftone.data.reading import Readers
from halftone.data.split import hold_out
from halftone.data.streaming import StreamingFeed, decode_all
from halftone.data.survey import survey
from halftone.run.plan.data import measure
from pictures import write

CPU = torch.device("cpu")
SPEC = InputSpec(size=4, mean=(0.5,) * 3, std=(0.2,) * 3)


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Labelled]:
    """Twelve files of which one is never read, as on a network file system without its server."""
    for number in range(12):
        write(tmp_path / "ab"[number % 2] / f"{number:02d}.png")
    answer = threading.Event()

    def waiting(open_file: Callable[..., Any]) -> Callable[..., Any]:
        def open_or_wait(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).endswith("07.png"):
                answer.wait(60)
            return open_file(path, *arguments, **options)

        return open_or_wait

    source = open_source(DataConfig(source=str(tmp_path))).train
    monkeypatch.setattr(os, "open", waiting(os.open))
    monkeypatch.setattr(Path, "open", waiting(Path.open))
    yield source
    answer.set()
    deadline = time.monotonic() + 10
    while alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_the_threads_go(workers: int) -> None:
    with Readers(workers, timeout=60, name=str) as readers:
        assert list(readers.map(lambda index: index * index, range(1000))) == [i * i for i in range(1000)]
        assert readers.num_threads == len(alive()) == max(1, workers)
        few = readers.map(str, range(10**9))  # no more is taken than is soon wanted
        assert [next(few) for _ in range(3)] == ["0", "1", "2"]
    assert not alive()


def test_a_fault_of_the_program_reaches_the_caller() -> None:
    with Readers(2, timeout=60, name=str) as readers, pytest.raises(ZeroDivisionError):
        list(readers.map(lambda index: 1 // (5 - index), range(100)))
    assert not alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_A37_a_read_that_hangs_ends_an_epoch_and_names_the_file(stuck: Labelled, workers: int) -> None:
    name = next(stuck.name(index) for index in range(12) if stuck.name(index).endswith("07.png"))
    feed = StreamingFeed(stuck, SPEC, CPU, workers=workers, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(ResourceError, match=rf"{name} has not been read within 0.5 seconds") as caught:
        list(feed.batches(np.arange(12), 4))
    assert time.monotonic() - began < 5
    assert "--data.timeout" in caught.value.hint
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "read",
    [
        lambda source: survey(source, workers=2, timeout=0.3),
        lambda source: hold_out(source, 0.2, seed=0, workers=2, timeout=0.3),
        lambda source: decode_all(source, SPEC, CPU, workers=1, timeout=0.3),
        lambda source: list(check_part("train", source, workers=2, timeout=0.3)),
        lambda source: decode_faults(source, workers=2, timeout=0.3),
        lambda source: measure(source, SPEC, timeout=0.3),
    ],
    ids=["survey", "split", "resident", "check", "faults", "measure"],
)
def test_A37_a_read_that_hangs_ends_all_that_comes_before_training(stuck: Labelled, read: Any) -> None:
    with pytest.raises(ResourceError, match=r"07\.png has not been read within 0\.3 seconds"):
        read(stuck)


def test_A37_time_counts_only_while_somebody_waits() -> None:
    """A process that was stopped for a minute, or a training step that takes one, makes no file slow."""
    release = threading.Event()

    def read(index: int) -> list[int]:
        readers.begin(index)
        release.wait(30)
        return [index]

    with Readers(1, timeout=0.5, name=str) as readers:
        future = readers.submit(read, 3)
        time.sleep(1)  # nobody waits for it
        release.set()
        assert readers.wait([future]) == [3]


def test_A37_slow_images_are_no_hang() -> None:
    def read(index: int) -> int:
        time.sleep(0.1)  # ten of them take longer than the limit, each of them does not
        return index

    with Readers(1, timeout=0.5, name=str) as readers:
        assert list(readers.map(read, range(10))) == list(range(10))


def test_A37_zero_waits_for_ever() -> None:
    with Readers(1, timeout=0, name=str) as readers:
        assert list(readers.map(lambda index: time.sleep(0.2) or index, [5])) == [5]
