"""A flip that alternates: both sides of every image in two epochs, whatever the order, and exact at any step."""

import numpy as np
import pytest
import torch

from halftone.base.inputs import InputSpec
from halftone.data.augment.alternate import is_mirrored
from halftone.data.augment.pipeline import Augment, denormalise
from halftone.data.config import AugmentConfig
from halftone.data.feed import Batch

MANY = np.arange(20_000)


def test_a_random_half_is_mirrored_first_and_the_other_half_next() -> None:
    first = is_mirrored(MANY, epoch=0, seed=3)
    assert abs(first.mean() - 0.5) < 0.015  # four standard deviations
    assert abs((first[1:] == first[:-1]).mean() - 0.5) < 0.015
    for epoch in range(1, 5):
        assert np.array_equal(is_mirrored(MANY, epoch=epoch, seed=3), first ^ bool(epoch % 2))
    assert abs((is_mirrored(MANY, epoch=0, seed=4) == first).mean() - 0.5) < 0.015


def test_it_depends_on_the_image_and_not_on_its_place() -> None:
    shuffled = np.random.default_rng(0).permutation(MANY)[:100]
    assert np.array_equal(is_mirrored(shuffled, epoch=1, seed=0), is_mirrored(MANY, epoch=1, seed=0)[shuffled])


@pytest.mark.parametrize("shift", [0, 2])
def test_the_pipeline_mirrors_what_the_epoch_of_the_step_says(shift: int) -> None:
    """Pictures that are dark on their left: a step's epoch is its number over the batches of an epoch."""
    spec = InputSpec(size=8, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    config = AugmentConfig.parse({
        "policy": "none", "flip": "alternate", "pad_crop": shift, "border": "edge", "resized_crop": "none", "rotate": 0,
        "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "random_ops": "none", "erase": 0,
    })  # fmt: skip
    change = Augment(config, spec, torch.device("cpu"), num_classes=2, seed=5, crop=True, batches_per_epoch=4)
    pixels = torch.zeros(50, 3, 8, 8, dtype=torch.uint8)
    pixels[..., 4:] = 200
    indices = np.arange(100, 150)
    batch = Batch(pixels, torch.zeros(50, dtype=torch.int64), indices)
    for step, epoch in ((0, 0), (3, 0), (4, 1), (7, 1), (8, 2)):
        images = denormalise(change(batch, step)[0], spec)
        mirrored = (images[..., 0, 0].float().mean(1) > 100).numpy()
        assert np.array_equal(mirrored, is_mirrored(indices, epoch=epoch, seed=5))
