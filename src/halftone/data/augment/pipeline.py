"""The way of a batch from uint8 to what the network sees, in training and in evaluation."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halftone.base.inputs import InputSpec
from halftone.base.records import decided
from halftone.base.seeds import stream
from halftone.data.augment import colour, geometry
from halftone.data.augment.alternate import is_mirrored
from halftone.data.augment.mix import Mix, mixed_targets
from halftone.data.augment.random_ops import rand_augment, trivial_augment
from halftone.data.config import AugmentConfig, Border
from halftone.data.feed import Batch
from halftone.data.progressive import Sizes, make_smaller

Change = Callable[[Tensor, np.random.Generator], Tensor]
Which = npt.NDArray[np.bool_]
"""Some images of a batch, [batch]."""
Move = Callable[[Tensor, np.random.Generator, Which | None], Tensor]
"""Beside what a change takes: which images are mirrored left to right, where that is not drawn."""
_ERASED_AREA = (0.02, 0.33)  # Zhong et al. 2020, section 4.2
_ERASED_ASPECT = (0.3, 3.3)


class Normalise:
    """uint8 to floating point with the mean and deviation that the network was made for."""

    def __init__(self, spec: InputSpec, device: torch.device) -> None:
        """Fold division by 255, mean and deviation into one multiplication and one addition."""
        mean = torch.tensor(spec.mean, dtype=torch.float64)
        std = torch.tensor(spec.std, dtype=torch.float64)
        self._scale = (1 / (255 * std)).float().to(device)
        self._shift = (-mean / std).float().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 [batch, channels, height, width], channels last in memory, from values in [0, 255]."""
        width = images.shape[3]
        rows = images.permute(0, 2, 3, 1).flatten(2).float()
        # by whole rows: a factor per channel, of three that lie side by side, takes five times as long
        rows = rows.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        return rows.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


def denormalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Return uint8 images from normalised ones, for people to look at."""
    mean = torch.tensor(spec.mean, device=images.device).reshape(1, -1, 1, 1)
    std = torch.tensor(spec.std, device=images.device).reshape(1, -1, 1, 1)
    return (images * std + mean).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


class Augment:
    """Random changes, then normalisation. The draws depend on the seed and the step alone."""

    def __init__(
        self,
        config: AugmentConfig,
        spec: InputSpec,
        device: torch.device,
        *,
        num_classes: int,
        seed: int,
        crop: bool,
        sizes: Sizes | None = None,
        batches_per_epoch: int = 1,
    ) -> None:
        """Prepare the changes that a settled configuration asks for.

        Args:
            config: without any `auto` left.
            spec: what the network expects.
            device: where the batches are.
            num_classes: for the targets of mixed images.
            seed: of the run.
            crop: whether the random resized crop happens here (a resident set) or was done while decoding.
            sizes: of the pictures by the step, if they are not always those of the spec.
            batches_per_epoch: tells the epoch of a step, for a flip that alternates.
        """
        self.spec = spec
        self._normalise = Normalise(spec, device)
        self._num_classes = num_classes
        self._seed = seed
        self._whole_pixels = _whole_pixel_changes(config)
        self._alternates = config.flip == "alternate"
        self._batches_per_epoch = batches_per_epoch
        self._sizes = sizes or Sizes(spec.size)
        self._warp = _warp(decided(config.resized_crop) if crop else "none", decided(config.rotate))
        self._changes = _changes(config)
        self._erase = decided(config.erase)
        self._mean = torch.tensor(spec.mean, device=device).reshape(1, -1, 1, 1)
        self._mix = Mix(config.mixup, config.cutmix) if config.mixup or config.cutmix else None
        self._draws = bool(self._whole_pixels or self._warp or self._changes or self._erase or self._mix)

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Change and normalise one batch.

        Args:
            batch: uint8 images and labels.
            step: the number of the batch within the run.

        Returns:
            float32 images [batch, channels, height, width], and labels [batch] or, for mixed images, label
            probabilities [batch, classes].
        """
        size, by = self._sizes.at(step), self._sizes.by
        if not self._draws:
            return self._normalise(make_smaller(batch.images, size, by)), batch.labels
        random = stream(self._seed, "augment", step)
        images, targets = batch.images, batch.labels
        sides = self._sides(batch, step) if self._alternates else None
        for move in self._whole_pixels:
            images = move(images, random, sides)
        if self._warp is not None:
            images = self._warp(_planes(images), random)
        images = make_smaller(images, size, by)
        if self._changes or self._erase:
            images = _planes(images)
            for change in self._changes:
                images = change(images, random)
            if self._erase:
                images = erase(images, self._mean, random, self._erase)
        if images.is_floating_point():
            images = images.mul_(255)
        images = self._normalise(images)
        if self._mix is not None and len(images) > 1:
            images, partner, share = self._mix(images, random)
            targets = mixed_targets(batch.labels, partner, share, self._num_classes)
        return images, targets

    def _sides(self, batch: Batch, step: int) -> Which:
        """Return which images are mirrored where that alternates by epoch."""
        return is_mirrored(batch.indices, epoch=step // self._batches_per_epoch, seed=self._seed)


def _whole_pixel_changes(config: AugmentConfig) -> list[Move]:
    """Return the changes that move pixels without mixing them, and so work on uint8."""
    changes: list[Move] = []
    flip: float | Literal["alternate"] = decided(config.flip)
    shift = decided(config.pad_crop)
    border: Border = decided(config.border)
    if shift:

        def flip_and_shift(images: Tensor, random: np.random.Generator, sides: Which | None) -> Tensor:
            count, device = len(images), images.device
            offsets = torch.from_numpy(random.integers(-shift, shift + 1, size=(2, count)))
            down, right = offsets.to(device, non_blocking=True)
            flipped = torch.from_numpy(_sides_or_chance(count, random, sides, flip)).to(device, non_blocking=True)
            return geometry.flip_and_shift(images, flipped, down, right, border=border)

        changes.append(flip_and_shift)
    elif flip:

        def mirror(images: Tensor, random: np.random.Generator, sides: Which | None) -> Tensor:
            return geometry.mirror(images, _sides_or_chance(len(images), random, sides, flip), 3)

        changes.append(mirror)
    if config.vertical_flip:
        changes.append(
            lambda images, random, sides: geometry.mirror(images, _chance(len(images), random, config.vertical_flip), 2)
        )
    return changes


def _planes(images: Tensor) -> Tensor:
    """Return floating point in [0, 1], channel by channel, where changes of colour are several times as fast."""
    if images.is_floating_point():
        return images
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _changes(config: AugmentConfig) -> list[Change]:
    """Return the changes of colour, which work on floating point in [0, 1]."""
    changes: list[Change] = []
    factors = {
        colour.brightness: decided(config.brightness),
        colour.contrast: decided(config.contrast),
        colour.saturation: decided(config.saturation),
    }
    for adjust, spread in factors.items():
        if spread:
            changes.append(
                lambda images, random, adjust=adjust, spread=spread: adjust(  # type: ignore[misc]
                    images, _uniform(images, random, 1 - spread, 1 + spread)
                )
            )
    turn = decided(config.hue)
    if turn:
        changes.append(lambda images, random: colour.hue(images, _uniform(images, random, -turn, turn)))
    ops = decided(config.random_ops)
    if ops == "trivial":
        changes.append(trivial_augment)
    elif ops == "rand":
        changes.append(
            lambda images, random: rand_augment(
                images, random, num_ops=config.rand_num_ops, magnitude=config.rand_magnitude
            )
        )
    return changes


def _warp(area: tuple[float, float] | Literal["none"], degrees: float) -> Change | None:
    """Return what cuts out a random rectangle and rotates, for floating point in [0, 1], if either is asked for."""
    if area == "none" and not degrees:
        return None
    return lambda images, random: _warped(images, random, None if area == "none" else area, degrees)


def _warped(images: Tensor, random: np.random.Generator, area: tuple[float, float] | None, degrees: float) -> Tensor:
    """Change where the pixels are, in one pass over them."""
    count = len(images)
    maps = geometry.identity(count)
    if area is not None:
        share = random.uniform(area[0], area[1], size=count)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), size=count))
        width, height = np.minimum(np.sqrt(share * ratio), 1), np.minimum(np.sqrt(share / ratio), 1)
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        maps = geometry.crop(left, top, width, height)
    if degrees:
        maps = geometry.compose(maps, geometry.rotation(random.uniform(-degrees, degrees, size=count)))
    return geometry.warp(images, maps)


def erase(images: Tensor, fill: Tensor, random: np.random.Generator, chance: float) -> Tensor:
    """Fill a random rectangle of some images, [batch, channels, height, width] (Zhong et al. 2020)."""
    count, height, width = len(images), images.shape[2], images.shape[3]
    area = random.uniform(_ERASED_AREA[0], _ERASED_AREA[1], size=count) * height * width
    ratio = np.exp(random.uniform(np.log(_ERASED_ASPECT[0]), np.log(_ERASED_ASPECT[1]), size=count))
    tall, wide = np.minimum(np.sqrt(area * ratio), height), np.minimum(np.sqrt(area / ratio), width)
    top, left = random.uniform(0, height - tall), random.uniform(0, width - wide)
    hit = random.uniform(size=count) < chance
    edges = np.stack([top, np.where(hit, top + tall, top), left, np.where(hit, left + wide, left)])
    first_row, end_row, first_column, end_column = torch.from_numpy(edges.astype(np.float32)).to(
        images.device, non_blocking=True
    )
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= first_row[:, None]) & (rows < end_row[:, None])
    in_columns = (columns >= first_column[:, None]) & (columns < end_column[:, None])
    return torch.where((in_rows[:, None, :, None] & in_columns[:, None, None, :]), fill, images)


def _sides_or_chance(
    count: int, random: np.random.Generator, sides: Which | None, flip: float | Literal["alternate"]
) -> Which:
    """Return which images to mirror: as is known, or by chance."""
    if sides is not None:
        return sides
    assert flip != "alternate"
    return _chance(count, random, flip)


def _chance(count: int, random: np.random.Generator, probability: float) -> Which:
    return random.uniform(size=count) < probability


def _uniform(images: Tensor, random: np.random.Generator, low: float, high: float) -> Tensor:
    factors = random.uniform(low, high, size=len(images)).astype(np.float32)
    return torch.from_numpy(factors).to(images.device, non_blocking=True)
