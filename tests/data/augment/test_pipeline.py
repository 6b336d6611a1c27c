"""The way of a batch: draws by seed and step, shapes, layouts, and each setting's own effect."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from halftone.base.inputs import InputSpec
from halftone.data.augment import colour
from halftone.data.augment.pipeline import Augment, Normalise, denormalise, erase
from halftone.data.config import AugmentConfig
from halftone.data.feed import Batch
from samples import OFF

CPU = torch.device("cpu")
LAST = torch.channels_last
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flip": {"flip": 0.5},
    "vertical_flip": {"vertical_flip": 0.5},
    "pad_crop": {"pad_crop": 3, "flip": 0.5},
    "resized_crop": {"resized_crop": (0.3, 1.0)},
    "rotate": {"rotate": 15.0},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.1},
    "trivial": {"random_ops": "trivial"},
    "rand": {"random_ops": "rand"},
    "erase": {"erase": 1.0},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "all": {
        "flip": 0.5,
        "vertical_flip": 0.5,
        "pad_crop": 2,
        "border": "edge",
        "resized_crop": (0.3, 1.0),
        "rotate": 15.0,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "random_ops": "trivial",
        "erase": 0.5,
        "mixup": 0.4,
        "cutmix": 1.0,
    },
}
NO_COLOUR = {"saturation", "hue"}


def spec(channels: int = 3, size: int = 16) -> InputSpec:
    return InputSpec(size=size, channels=channels, mean=(0.48, 0.45, 0.4)[:channels], std=(0.22, 0.23, 0.25)[:channels])


def augment(channels: int = 3, *, seed: int = 0, crop: bool = True, **options: Any) -> Augment:
    config = AugmentConfig(**(OFF | options))
    return Augment(config, spec(channels), CPU, num_classes=4, seed=seed, crop=crop)


def batch(channels: int = 3, *, count: int = 12, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, size, size, channels), generator=generator, dtype=torch.uint8)
    return Batch(pixels.permute(0, 3, 1, 2), torch.arange(count) % 4, np.arange(count))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalising_is_torchvisions(channels: int) -> None:
    images = batch(channels).images
    found = Normalise(spec(channels), CPU)(images)
    theirs = F.normalize(images / 255, list(spec(channels).mean), list(spec(channels).std))
    assert (found - theirs).abs().max() < 2e-6
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(denormalise(found, spec(channels)), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_keeps_shape_layout_and_the_batch_itself(name: str, channels: int) -> None:
    change = augment(channels, **SETTINGS[name])
    given_batch = batch(channels)
    before = given_batch.images.clone()
    images, targets = change(given_batch, 5)
    assert images.shape == (12, channels, 16, 16)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=LAST)
    assert images.isfinite().all()
    assert torch.equal(given_batch.images, before)
    plain = Normalise(spec(channels), CPU)(before)
    assert torch.equal(images, plain) == (name == "nothing" or (channels == 1 and name in NO_COLOUR))
    shades = denormalise(images, spec(channels)).float()
    low, high = plain.amin((0, 2, 3)), plain.amax((0, 2, 3))
    assert (images.amin((0, 2, 3)) >= low - 1e-4).all()
    assert (images.amax((0, 2, 3)) <= high + 1e-4).all()
    assert shades.std() > 10  # something is left to see
    if name in ("mixup", "cutmix", "all"):
        assert targets.shape == (12, 4)
        assert torch.allclose(targets.sum(1), torch.ones(12))
    else:
        assert torch.equal(targets, given_batch.labels)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "nothing"])
def test_draws_depend_on_the_seed_and_the_step_alone(name: str) -> None:
    change = augment(**SETTINGS[name])
    first, targets = change(batch(), 7)
    change(batch(count=5), 8)  # what came in between does not matter
    torch.manual_seed(1)
    np.random.seed(1)
    again, same_targets = augment(**SETTINGS[name])(batch(), 7)
    assert torch.equal(first, again)
    assert torch.equal(targets, same_targets)
    others = [augment(**SETTINGS[name])(batch(), 8)[0], augment(seed=1, **SETTINGS[name])(batch(), 7)[0]]
    assert all(not torch.equal(first, other) for other in others)


def originals(images: torch.Tensor, variants: Any) -> list[set[int]]:
    """Say which of some variants of the untouched batch each image is."""
    whole = denormalise(images, spec())
    return [
        {number for number, variant in enumerate(variants) if torch.equal(whole[index], variant[index])}
        for index in range(len(images))
    ]


@pytest.mark.parametrize(("setting", "theirs"), [("flip", F.horizontal_flip), ("vertical_flip", F.vertical_flip)])
def test_flips_are_flips_with_their_probability(setting: str, theirs: Any) -> None:
    plain = batch(count=200, size=4)
    variants = [plain.images, theirs(plain.images)]
    found = originals(augment(**{setting: 0.3})(plain, 0)[0], variants)
    assert all(len(kinds) == 1 for kinds in found)
    assert 35 <= sum(1 in kinds for kinds in found) <= 85
    assert all(kinds == {1} for kinds in originals(augment(**{setting: 1.0})(plain, 0)[0], variants))
    assert all(kinds == {0} for kinds in originals(augment(**{setting: 0.0})(plain, 0)[0], variants))


def test_shifts_are_crops_of_the_padded_picture() -> None:
    plain = batch(count=300, size=6)
    padded = F.pad(plain.images, [2, 2, 2, 2], padding_mode="reflect")
    variants = [padded[..., top : top + 6, left : left + 6] for top in range(5) for left in range(5)]
    found = originals(augment(pad_crop=2)(plain, 0)[0], variants)
    assert all(len(kinds) == 1 for kinds in found)
    counts = np.bincount([kinds.pop() for kinds in found], minlength=25)
    assert counts.min() >= 1
    assert counts.max() <= 30


@pytest.mark.parametrize("setting", ["brightness", "contrast"])
def test_factors_stay_in_their_range(setting: str) -> None:
    plain = Batch(
        torch.full((200, 3, 4, 4), 100, dtype=torch.uint8), torch.zeros(200, dtype=torch.long), np.arange(200)
    )
    plain.images[:, :, :2] = 60
    plain.images = plain.images.contiguous(memory_format=LAST)
    images = denormalise(augment(**{setting: 0.25})(plain, 0)[0], spec()).float()
    spread = (images[:, 0, 3, 0] - images[:, 0, 0, 0]) / 40  # both scale the difference of two shades
    assert 0.72 <= spread.min() < 0.79
    assert 1.21 < spread.max() <= 1.28
    assert abs(spread.mean() - 1) < 0.04


def test_colour_changes_are_those_of_the_colour_room() -> None:
    images, _ = augment(hue=0.5)(batch(), 3)
    hue = denormalise(images, spec()).float() / 255
    value = hue.amax(1)
    assert (value - batch().images.float().amax(1) / 255).abs().max() < 0.01  # turning the hue keeps the value
    gray = colour.gray(denormalise(augment(saturation=1.0)(batch(), 3)[0], spec()).float() / 255)
    assert (gray - colour.gray(batch().images / 255)).abs().max() > 0  # and clipping aside, saturation the luminance


def test_a_streaming_feed_has_cropped_already() -> None:
    plain = Normalise(spec(), CPU)(batch().images)
    assert torch.equal(augment(crop=False, resized_crop=(0.1, 0.5))(batch(), 0)[0], plain)
    assert not torch.equal(augment(crop=True, resized_crop=(0.1, 0.5))(batch(), 0)[0], plain)
    assert not torch.equal(augment(crop=False, resized_crop=(0.1, 0.5), rotate=10.0)(batch(), 0)[0], plain)


def test_resized_crops_show_a_share_of_the_picture() -> None:
    down, right = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = (
        torch.stack([right, down, right]).mul(4).to(torch.uint8).expand(200, 3, 64, 64).contiguous(memory_format=LAST)
    )
    config = AugmentConfig(**(OFF | {"resized_crop": (0.25, 0.5)}))
    change = Augment(config, spec(size=64), CPU, num_classes=4, seed=0, crop=True)
    images, _ = change(Batch(ramp, torch.zeros(200, dtype=torch.long), np.arange(200)), 0)
    seen = denormalise(images, spec(size=64)).float() / 4
    width = seen[:, 0, 0].amax(1) - seen[:, 0, 0].amin(1) + 1
    height = seen[:, 1, :, 0].amax(1) - seen[:, 1, :, 0].amin(1) + 1
    area = width * height / 64**2
    assert 0.22 < area.min() < 0.3
    assert 0.45 < area.max() < 0.55
    assert (width / height).min() > 0.7
    assert (width / height).max() < 1.4


def test_the_mean_fills_what_is_erased() -> None:
    images = torch.zeros(400, 3, 20, 30).contiguous(memory_format=LAST)
    fill = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)
    found = erase(images, fill, np.random.Generator(np.random.Philox(0)), 0.5)
    blank = found[:, 0] != 0
    hit = blank.flatten(1).any(1)
    assert 150 < hit.sum() < 250
    assert torch.equal(found, torch.where(blank[:, None], fill, torch.zeros(())))
    for mask in blank[hit]:
        assert torch.equal(mask, mask.any(1)[:, None] & mask.any(0)[None])  # one rectangle
    areas = blank[hit].flatten(1).float().mean(1)
    assert areas.min() > 0.005
    assert areas.max() < 0.36
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(erase(images, fill, np.random.Generator(np.random.Philox(0)), 0.0), images)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 10**9))
def test_tiny_batches_and_pictures_pass(count: int, size: int, channels: int, step: int) -> None:
    config = AugmentConfig(**(OFF | SETTINGS["all"]))
    change = Augment(config, spec(channels, size), CPU, num_classes=4, seed=0, crop=True)
    images, targets = change(batch(channels, count=count, size=size), step)
    assert images.shape == (count, channels, size, size)
    assert images.isfinite().all()
    assert len(targets) == count
    if count == 1:
        assert targets.dtype == torch.int64  # there is nobody to mix with


def test_an_auto_left_open_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="undecided"):
        Augment(AugmentConfig(), spec(), CPU, num_classes=4, seed=0, crop=True)
