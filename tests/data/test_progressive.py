"""Smaller pictures early in training: their sizes by the step, and how they are made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from halftone.base.errors import RecipeError
from halftone.base.inputs import InputSpec
from halftone.base.lengths import Span, parse_span
from halftone.data.augment.pipeline import Augment, Normalise
from halftone.data.cache.open import open_cache
from halftone.data.config import AugmentConfig, DataConfig
from halftone.data.feed import Batch
from halftone.data.labelled import Labelled
from halftone.data.open import open_source
from halftone.data.progressive import EarlySize, Sizes, make_smaller, plan_sizes
from halftone.data.streaming import RandomBox, StreamingFeed
from pictures import noise, slope, write
from samples import OFF

CPU = torch.device("cpu")
EARLY = (EarlySize(size=8, until=2), EarlySize(size=12, until=5))
GROWING = Sizes(16, EARLY)


def spec(size: int = 16) -> InputSpec:
    return InputSpec(size=size, mean=(0.48, 0.45, 0.4), std=(0.22, 0.23, 0.25))


def batch(size: int = 16) -> Batch:
    pixels = np.stack([slope(size, size) if number % 2 else noise(size, size) for number in range(6)])
    return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(6) % 3, np.arange(6))


def steps(span: Span) -> int:
    return span.steps(steps_per_epoch=10, total_steps=200)


def test_sizes_are_planned_in_steps_by_their_ends() -> None:
    wish = DataConfig.parse({"progressive": "160=12ep, 128=25%"}).progressive
    planned = plan_sizes(wish, full=224, steps=steps)
    assert [(early.size, early.until) for early in planned] == [(128, 50), (160, 120)]
    assert plan_sizes({}, full=224, steps=steps) == ()
    assert plan_sizes({128: parse_span("none")}, full=224, steps=steps) == ()


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("224=1ep", r"data\.progressive = 224: pictures have 224 pixels a side"),
        ("256=1ep", r"data\.progressive = 256"),
        ("128=12ep,160=6ep", r"160 pixels until step 60 have no step of their own, .*128 pixels last until step 120"),
        ("128=6ep,160=60it", "160 pixels until step 60"),
    ],
)
def test_what_does_not_grow_is_refused(wish: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        plan_sizes(DataConfig.parse({"progressive": wish}).progressive, full=224, steps=steps)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("128", "must be SIZE=LENGTH, such as 128=6ep"),
        ("half=6ep", "the size half must be a number of pixels from 4 to 4096"),
        ("2=6ep", "the size 2 must be"),
        ("128=6", "a length is a number with a unit"),
        (128, "such as 128=6ep,160=12ep"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(wish: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        DataConfig.parse({"progressive": wish})
    assert "\n" not in str(caught.value)


def test_a_recipe_keeps_them_as_they_are_written() -> None:
    config = DataConfig.parse({"progressive": {"128": "6ep", 160: "50%"}})
    written = config.model_dump(mode="json")["progressive"]
    assert {int(size): length for size, length in written.items()} == {128: "6ep", 160: "50%"}
    assert DataConfig.parse({"progressive": written}) == config
    assert DataConfig.parse({"progressive": "none"}).progressive == {}


def test_a_step_has_the_size_of_its_stretch() -> None:
    assert [GROWING.at(step) for step in range(7)] == [8, 8, 12, 12, 12, 16, 16]
    assert [step for step in range(9) if GROWING.grows_at(step)] == [2, 5]
    assert Sizes(16).at(0) == 16


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pictures_are_resized_as_pillow_does(kind: str) -> None:
    """Antialiased; uint8 within one step of rounding."""
    images = batch(16).images
    found = make_smaller(images if kind == "uint8" else images.float(), 10, "resize")
    assert found.dtype == getattr(torch, kind)
    for number, picture in enumerate(images.permute(0, 2, 3, 1).numpy()):
        theirs = np.asarray(Image.fromarray(picture).resize((10, 10), Image.Resampling.BILINEAR), dtype=np.float64)
        assert np.abs(found[number].permute(1, 2, 0).double().numpy() - theirs).max() <= 1.0


def test_the_middle_is_cut_out() -> None:
    images = batch(16).images
    assert torch.equal(make_smaller(images, 12, "crop"), images[:, :, 2:14, 2:14])
    assert torch.equal(make_smaller(images, 11, "crop"), images[:, :, 2:13, 2:13])
    for size in (16, 20):
        assert make_smaller(images, size, "crop") is images
        assert make_smaller(images, size, "resize") is images


@pytest.mark.parametrize("by", ["resize", "crop"])
def test_without_changes_a_batch_is_made_smaller_and_normalised(by: Any) -> None:
    change = Augment(AugmentConfig(**OFF), spec(), CPU, num_classes=3, seed=0, crop=True, sizes=Sizes(16, EARLY, by))
    for step, size in ((0, 8), (4, 12), (5, 16)):
        images, labels = change(batch(), step)
        assert torch.equal(images, Normalise(spec(), CPU)(make_smaller(batch().images, size, by)))
        assert torch.equal(labels, batch().labels)


@pytest.mark.parametrize("by", ["resize", "crop"])
def test_shifts_and_crops_come_before_and_draw_the_same(by: Any) -> None:
    """What a picture shows is what it would show at full size, smaller."""
    for changes in ({"pad_crop": 2, "flip": 0.5}, {"resized_crop": (0.4, 1.0), "rotate": 10.0}):
        config = AugmentConfig(**(OFF | changes))
        settings = {"num_classes": 3, "seed": 0, "crop": True}
        whole, _ = Augment(config, spec(), CPU, **settings)(batch(), 1)
        small, _ = Augment(config, spec(), CPU, sizes=Sizes(16, EARLY, by), **settings)(batch(), 1)
        assert small.shape == (6, 3, 8, 8)
        assert small.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(small, make_smaller(whole, 8, by), atol=0.02)  # of a uint8's rounding


def test_everything_else_comes_after() -> None:
    config = AugmentConfig(**(OFF | {"brightness": 0.3, "hue": 0.1, "erase": 1.0, "mixup": 0.4, "random_ops": "rand"}))
    images, targets = Augment(config, spec(), CPU, num_classes=3, seed=0, crop=True, sizes=GROWING)(batch(), 3)
    assert images.shape == (6, 3, 12, 12)
    assert images.isfinite().all()
    assert targets.shape == (6, 3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        write(root / "ab"[number % 2] / f"{number:02d}.jpg", slope(60 + number, 70))
    return open_source(DataConfig(source=str(root))).train


@pytest.mark.parametrize("kept", [False, True])
def test_random_crops_are_decoded_at_the_size_of_their_step(
    photos: Labelled, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pixels as from a feed of that size, with a cache and without."""
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path))
    area, order = (0.35, 1.0), np.arange(9)
    pictures = open_cache("ram", photos, spec(32), area, free_memory=1 << 30) if kept else None
    settings = {"workers": 1, "box": RandomBox(area, 3), "kept": pictures}
    growing = StreamingFeed(
        photos, spec(32), CPU, size=lambda epoch, number: 16 if epoch == 0 and number < 2 else 32, **settings
    )
    fixed = {
        size: StreamingFeed(photos, spec(32), CPU, size=lambda *_, size=size: size, **settings) for size in (16, 32)
    }
    for epoch in (0, 1):
        found = list(growing.batches(order, 3, epoch=epoch))
        assert [part.images.shape[3] for part in found] == ([16, 16, 32] if epoch == 0 else [32] * 3)
        for number, part in enumerate(found):
            same = list(fixed[part.images.shape[3]].batches(order, 3, epoch=epoch))[number]
            assert torch.equal(part.images, same.images)
    (later,) = growing.batches(order[3:6], 3, epoch=0, first=3)
    assert later.images.shape[3] == 16
    (seen,) = growing.batches(order[:3], 3)
    assert seen.images.shape[3] == 32  # evaluation
    if not kept:
        small = StreamingFeed(photos, spec(16), CPU, workers=1, box=RandomBox(area, 3))
        assert torch.equal(
            next(growing.batches(order, 3, epoch=0)).images, next(small.batches(order, 3, epoch=0)).images
        )
