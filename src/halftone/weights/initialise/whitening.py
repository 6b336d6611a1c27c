"""A first convolution that whitens the patches of the training images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.base.errors import RecipeError

_EPSILON = 5e-4
"""Added to the variances, so that directions without any are not blown up (Jordan 2024, airbench)."""
_MOST_PATCHES = 200_000


def patch_covariance(images: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Return the covariance [channels * height * width, same] of the patches of a kernel's size.

    All of them, or of many every second, third, ... both ways.

    Args:
        images: [batch, channels, height, width], as the network takes them.
        kernel: height and width in pixels.
    """
    count = len(images) * math.prod(images.shape[2 + side] - kernel[side] + 1 for side in (0, 1))
    stride = math.ceil(math.sqrt(count / _MOST_PATCHES))
    patches = F.unfold(images.float().contiguous(), kernel, stride=stride).transpose(1, 2).flatten(0, 1)
    return torch.cov(patches.double().T, correction=0).view(patches.shape[1], -1)


def whitening_filters(covariance: Tensor, num_filters: int) -> Tensor:
    """Return filters whose responses to the patches have no covariance and a variance of one.

    The eigenvectors of the covariance, each divided by the root of its eigenvalue, the strongest first; once more with
    the other sign where there is room for all of them, since ReLU lets only one sign pass. (Coates and Ng 2012 whiten
    the patches, Page 2018, "How to train your ResNet", the first convolution.)

    Args:
        covariance: [size, size] of the patches.
        num_filters: how many are wanted, at most.

    Returns:
        [filters, size]: at most `num_filters`, and at most 2 * size.
    """
    values, vectors = torch.linalg.eigh(covariance)
    filters = (vectors / (values.clamp(min=0) + _EPSILON).sqrt()).T.flip(0)
    if num_filters >= 2 * len(filters):
        return torch.cat([filters, -filters])
    return filters[:num_filters]


def filters_for(layer: nn.Module, name: str, images: Tensor) -> Tensor:
    """Return the whitening filters of a first convolution, [filters, channels, height, width].

    Raises:
        RecipeError: it is divided into groups, or the images are smaller than its kernel.
    """
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.in_channels != images.shape[1]:
        raise RecipeError(f"init.whiten: {name} is no plain convolution over the picture", hint="leave init.whiten out")
    height, width = layer.kernel_size
    if images.shape[2] < height or images.shape[3] < width:
        raise RecipeError(
            f"init.whiten: the images are smaller than the {height}x{width} kernel of {name}", hint="a larger data.size"
        )
    filters = whitening_filters(patch_covariance(images, (height, width)), layer.out_channels)
    return filters.view(-1, *layer.weight.shape[1:])


def whiten(layer: nn.Module, filters: Tensor) -> None:
    """Put whitening filters into a convolution; those beyond them keep their weights, the bias becomes zero."""
    weight, bias = layer.get_parameter("weight"), layer._parameters["bias"]
    with torch.no_grad():
        weight[: len(filters)] = filters.to(weight)
        if bias is not None:
            bias.zero_()
