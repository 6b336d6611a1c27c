"""Where decoded images are kept, decided and said; and a run with a cache, stopped and resumed."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from halftone.base.errors import Interrupted
from halftone.run.events import Event, Notice, Started, StepTaken
from halftone.run.plan import decide
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.weights.files import load_sealed
from pictures import encoded, noise, slope, write
from samples import wish

MB = 1 << 20


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        ({"feed": "resident"}, "off", "the decoded set is resident"),
        ({"passes": 1.5}, "off", "each image is used about once"),
        ({}, "disk", "decoded, the images take 100 MB, at most a quarter of the free disk and half of the free memory"),
        ({"identified": False}, "ram", "decoded, the images take 100 MB, at most a quarter of the free memory"),
        ({"free_disk": 399 * MB}, "ram", "decoded, the images take 100 MB, at most a quarter of the free memory"),
        ({"free_memory": 399 * MB}, "disk", "a quarter of the free disk and half of the free memory"),
        ({"free_memory": 199 * MB}, "off", "more than a quarter of the free disk or half of the free memory"),
        ({"free_memory": 399 * MB, "free_disk": 0}, "off", "more than a quarter of the free disk or half"),
    ],
)
def test_where_images_are_kept(facts: dict[str, object], value: str, reason: str) -> None:
    usual: dict[str, object] = {"feed": "streaming", "passes": 2, "identified": True, "num_bytes": 100 * MB}
    usual |= {"free_disk": 400 * MB, "free_memory": 400 * MB}
    choice = decide.cache(**(usual | facts))  # type: ignore[arg-type]
    assert choice.value == value
    assert reason in choice.reason


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path / "cache"))
    for number in range(24):
        picture = np.clip(slope(80, 100).astype(int) // (1 + number % 2) + noise(80, 100, seed=number) // 6, 0, 255)
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.jpg", encoded(picture.astype(np.uint8), "JPEG"))
    return tmp_path / "photos"


def recipe(photos: Path, **options: object) -> Recipe:
    data = {"size": 32, "feed": "streaming", "workers": 1, **options}
    return wish(photos, photos.parent / "runs", data=data, batch_size=8, augment={"resized_crop": "0.35,1"})


def test_the_plan_says_whether_images_are_kept(photos: Path) -> None:
    plan = make_plan(recipe(photos)).plan
    (choice,) = [choice for choice in plan.choices if choice.setting == "data.cache"]
    assert choice.value == plan.settled.data.cache == "disk"
    assert choice.reason.startswith("decoded, the images take 0 MB")
    for asked in ("off", "ram", "disk"):
        plan = make_plan(recipe(photos, cache=asked)).plan
        assert plan.settled.data.cache == asked
        assert "data.cache" not in [choice.setting for choice in plan.choices]
    assert make_plan(recipe(photos, feed="resident")).plan.settled.data.cache == "off"


def ending(events: Iterator[Event]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the last weights of a run, and what it said of pictures."""
    said, place = [], Path()
    for event in events:
        if isinstance(event, Notice):
            said.append(event.text)
        elif isinstance(event, Started):
            place = event.folder.last
    return load_sealed(place).tensors, [text for text in said if "pictures" in text]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_with_a_cache_ends_the_same_wherever_it_lies(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, said = ending(training(recipe(photos, cache="ram")))
    assert said == []
    for _ in range(2):  # one fills it, the other finds it
        weights, said = ending(training(recipe(photos, cache="disk")))
        assert said == []
        assert same(weights, expected)
    (photos.parent / "file").write_text("")
    monkeypatch.setenv("HALFTONE_CACHE", str(photos.parent / "file"))
    weights, said = ending(training(recipe(photos, cache="disk")))
    assert len(said) == 1
    assert same(weights, expected)
    assert not same(ending(training(recipe(photos, cache="off")))[0], expected)


def test_a_run_that_fills_a_cache_is_resumed_exactly(photos: Path) -> None:
    expected, _ = ending(training(recipe(photos, cache="ram")))
    stop, place = StopRequest(), Path()
    with pytest.raises(Interrupted):
        for event in training(recipe(photos, cache="disk"), stop=stop):
            if isinstance(event, Started):
                place = event.folder.path
            if isinstance(event, StepTaken):
                stop.signal = signal.SIGTERM
    shutil.rmtree(photos.parent / "cache")
    weights, said = ending(resuming(place))
    assert said == []
    assert same(weights, expected)
