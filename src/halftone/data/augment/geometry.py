"""Moving pixels: flips and shifts by indexing, everything else as one affine map per image."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from halftone.data.config import Border

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def flip_and_shift(
    images: Tensor, flipped: Tensor, down: Tensor, right: Tensor, *, border: Border = "reflect"
) -> Tensor:
    """Mirror and shift by whole pixels.

    Args:
        images: [batch, channels, height, width], any type.
        flipped: bool [batch], which to mirror left to right.
        down: whole numbers [batch], how far the picture's content moves down, in pixels.
        right: whole numbers [batch], how far it moves right.
        border: what enters from outside.

    Returns:
        As the images, channels last in memory.
    """
    height, width = images.shape[2:]
    fold = _reflect if border == "reflect" else _clamp
    rows = fold(torch.arange(height, device=images.device) - down[:, None], height)
    columns = fold(torch.arange(width, device=images.device) - right[:, None], width)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    first = height * width * torch.arange(len(images), device=images.device)[:, None, None]
    chosen = first + width * rows[:, :, None] + columns[:, None, :]
    pixels = images.permute(0, 2, 3, 1)
    # by one number each: with a number per dimension, the same pixels take three times as long to gather
    return pixels.flatten(0, 2).index_select(0, chosen.flatten()).view(pixels.shape).permute(0, 3, 1, 2)


def mirror(images: Tensor, flipped: np.ndarray[Any, np.dtype[np.bool_]], dimension: int) -> Tensor:
    """Mirror some images.

    Args:
        images: [batch, channels, height, width], any type.
        flipped: [batch], which to mirror.
        dimension: 3 for left to right, 2 for top to bottom.

    Returns:
        As the images, channels last in memory.
    """
    chosen = np.flatnonzero(flipped)
    sources = np.arange(len(images))
    sources[chosen] = len(images) + np.arange(len(chosen))
    here, there = (torch.from_numpy(rows).to(images.device, non_blocking=True) for rows in (chosen, sources))
    pixels = images.permute(0, 2, 3, 1)
    mirrored = pixels.index_select(0, here).permute(0, 3, 1, 2).flip(dimension).permute(0, 2, 3, 1)
    return torch.cat([pixels, mirrored]).index_select(0, there).permute(0, 3, 1, 2)


def _middles(side: int, device: torch.device) -> Tensor:
    """Return where the pixels of a row have their middles, if its ends are at -1 and 1."""
    return (2 * torch.arange(side, dtype=torch.float32, device=device) + 1) / side - 1


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Fold positions outside of [0, size) back, without repeating the border pixel."""
    if size == 1:
        return torch.zeros_like(positions)
    period = 2 * (size - 1)
    folded = positions.remainder(period)
    return torch.where(folded < size, folded, period - folded)


def _clamp(positions: Tensor, size: int) -> Tensor:
    """Repeat the border pixel."""
    return positions.clamp(0, size - 1)


def identity(count: int) -> Floats:
    """Return maps that change nothing, [count, 2, 3]."""
    return np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))


def compose(first: Floats, second: Floats) -> Floats:
    """Return the maps that do `first`, then `second` to the picture; [batch, 2, 3].

    The maps go from output to input positions, so `second` is applied to a position first.
    """
    linear = first[:, :, :2] @ second[:, :, :2]
    offset = first[:, :, :2] @ second[:, :, 2:] + first[:, :, 2:]
    return np.concatenate([linear, offset], axis=2)


def rotation(degrees: Floats) -> Floats:
    """Return maps that turn pictures anticlockwise about their middle, [batch, 2, 3]."""
    angle = np.deg2rad(degrees)
    maps = identity(len(angle))
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angle)
    maps[:, 0, 1], maps[:, 1, 0] = -np.sin(angle), np.sin(angle)
    return maps


def shear(along_x: Floats, along_y: Floats) -> Floats:
    """Return maps that slant pictures; the amounts are tangents, [batch, 2, 3]."""
    maps = identity(len(along_x))
    maps[:, 0, 1], maps[:, 1, 0] = along_x, along_y
    return maps


def translation(right: Floats, down: Floats) -> Floats:
    """Return maps that shift pictures by shares of their width and height, [batch, 2, 3]."""
    maps = identity(len(right))
    maps[:, 0, 2], maps[:, 1, 2] = -2 * right, -2 * down
    return maps


def crop(left: Floats, top: Floats, width: Floats, height: Floats) -> Floats:
    """Return maps that enlarge a rectangle, given in shares of the picture, to the whole; [batch, 2, 3]."""
    maps = identity(len(left))
    maps[:, 0, 0], maps[:, 1, 1] = width, height
    maps[:, 0, 2], maps[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    return maps


def warp(images: Tensor, maps: Floats) -> Tensor:
    """Apply one affine map per image, bilinear, reflecting at the borders.

    Args:
        images: floating point [batch, channels, height, width].
        maps: from output to input positions, both in [-1, 1], [batch, 2, 3].
    """
    # square pixels: a rotation or shear must not stretch a picture that is not square; ours are
    theta = torch.from_numpy(maps.astype(np.float32)).to(images.device, non_blocking=True)
    across, down = (_middles(side, images.device) for side in (images.shape[3], images.shape[2]))
    by_column, by_row, offset = theta[:, :, :, None, None].unbind(2)
    places = by_column * across + (by_row * down[:, None] + offset)  # torch's `affine_grid` multiplies matrices
    grid = places.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
