"""The schemes that need nothing but the shape of a weight, each from its paper."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from halftone.weights.config import Fan, Scheme

WEIGHTED = (nn.Linear, _ConvNd)
"""The layers that a scheme is for; norms, embeddings and tokens stay as the network brings them."""
_OWN_GAIN: dict[str, float] = {"he-normal": math.sqrt(2), "he-uniform": math.sqrt(2)}
_OWN_STD: dict[str, float] = {"normal": 0.01, "uniform": 0.01, "truncated-normal": 0.02}
"""Krizhevsky et al. 2012, section 5; the code of Touvron et al. 2021 (DeiT) for vision transformers."""


def fans(layer: nn.Module) -> tuple[float, float]:
    """Return the numbers of inputs that an output of the layer sums over, and of outputs that an input goes to.

    Groups are counted: a depthwise 3x3 convolution has 9 and 9 (where it has one output per input). As in He et al.
    2015, equation 14, and in torch, the stride of a convolution is not counted; that of a transposed one is, where it
    decides the sum: of its k * k weights each output sees one in stride * stride.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, _ConvNd)
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    area = math.prod(layer.kernel_size)
    if isinstance(layer, _ConvTransposeNd):
        return inputs * area / min(area, math.prod(layer.stride)), outputs * area
    return inputs * area, outputs * area


def deviation(layer: nn.Module, scheme: Scheme, *, std: float | None, fan: Fan, gain: float | None) -> float:
    """Return the standard deviation that a scheme of random numbers gives a layer's weight.

    He et al. 2015, equation 10; Glorot and Bengio 2010, equation 16; LeCun et al. 1998, section 4.6.

    Args:
        layer: linear or convolution.
        scheme: of random, independent numbers.
        std: for normal, uniform and truncated-normal; None for 0.01 or, truncated, 0.02.
        fan: what he and lecun keep the variance of: activations (in) or gradients (out).
        gain: in place of the scheme's own.
    """
    own = _OWN_GAIN.get(scheme, 1.0) if gain is None else gain
    fan_in, fan_out = fans(layer)
    match scheme:
        case "normal" | "uniform" | "truncated-normal":
            return _OWN_STD[scheme] if std is None else std
        case "xavier-normal" | "xavier-uniform":
            return own * math.sqrt(2.0 / float(fan_in + fan_out))
        case "he-normal" | "he-uniform" | "lecun-normal" | "lecun-uniform":
            return own / math.sqrt(fan_in if fan == "in" else fan_out)
    raise AssertionError(f"{scheme} is not a scheme of independent numbers")


def fill(
    layer: nn.Module,
    scheme: Scheme,
    generator: torch.Generator,
    *,
    std: float | None = None,
    fan: Fan = "in",
    gain: float | None = None,
) -> None:
    """Draw the weight of a layer anew on the CPU, whatever device it lies on; its bias becomes zero.

    `lsuv` is orthogonal here; what follows needs images.
    """
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    assert weight is not None
    drawn = torch.empty(weight.shape)
    match scheme:
        case "zeros":
            drawn.zero_()
        case "orthogonal" | "lsuv":
            _orthogonal(layer, drawn, generator, 1.0 if gain is None else gain)
        case "dirac":
            _dirac(layer, drawn)
        case "dirac-first":
            nn.init.kaiming_uniform_(drawn, math.sqrt(5), generator=generator)  # as torch draws fresh layers
            _dirac_first(layer, drawn)
        case "normal" | "he-normal" | "xavier-normal" | "lecun-normal":
            nn.init.normal_(drawn, 0.0, deviation(layer, scheme, std=std, fan=fan, gain=gain), generator)
        case "truncated-normal":
            wanted = deviation(layer, scheme, std=std, fan=fan, gain=gain)
            nn.init.trunc_normal_(drawn, 0.0, wanted, -2 * wanted, 2 * wanted, generator)
        case _:
            bound = math.sqrt(3.0) * deviation(layer, scheme, std=std, fan=fan, gain=gain)
            nn.init.uniform_(drawn, -bound, bound, generator)
    with torch.no_grad():
        weight.copy_(drawn)
        if bias is not None:
            bias.zero_()


def _orthogonal(layer: nn.Module, drawn: Tensor, generator: torch.Generator, gain: float) -> None:
    """Saxe et al. 2014: orthonormal rows, or columns where there are more rows; each group for itself."""
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    for part in drawn.chunk(groups):
        by_output = part.transpose(0, 1) if isinstance(layer, _ConvTransposeNd) else part
        made = torch.empty(by_output.shape)
        nn.init.orthogonal_(made, gain, generator)
        by_output.copy_(made)


def _dirac_first(layer: nn.Module, drawn: Tensor) -> None:
    """Let every channel pass in the first outputs and leave the others random (Jordan 2024, section 3.3).

    A convolution with more outputs than inputs begins as the identity beside random filters; none of them is zero, as
    they are in `dirac`, so a normalisation may follow.
    """
    for part in drawn.chunk(layer.groups if isinstance(layer, _ConvNd) else 1):
        first = part[: part.shape[1]]
        if isinstance(layer, nn.Linear):
            nn.init.eye_(first)
        else:
            nn.init.dirac_(first)


def _dirac(layer: nn.Module, drawn: Tensor) -> None:
    """Let every channel pass (Zagoruyko and Komodakis 2017); of a linear layer, every feature."""
    if isinstance(layer, nn.Linear):
        nn.init.eye_(drawn)
    else:
        assert isinstance(layer, _ConvNd)
        nn.init.dirac_(drawn, layer.groups)
