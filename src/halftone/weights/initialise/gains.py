"""The gain of a layer from the activation that follows it."""

import math

import torch
from torch import nn

from halftone.weights.initialise.trace import Activation

_SPAN, _POINTS = 8.0, 4097
"""Deviations of the normal distribution on both sides that are integrated over, and the points of the rule."""
_KNOWN = ("relu", "tanh", "sigmoid", "selu")
"""Those that `torch.nn.init.calculate_gain` knows, besides leaky_relu, which is integrated with its slope."""


def gain_of(activation: Activation | None) -> float:
    """Return the factor on a layer's deviation that keeps the numbers as large as they are.

    torch's recommendation where it has one. For any other activation f it is 1 / sqrt(E[f(z)^2]) over a standard
    normal z, integrated numerically: what He et al. 2015 (section 2.2) derive for ReLU.

    Args:
        activation: None for a layer that none follows; its gain is 1.
    """
    if activation is None:
        return 1.0
    if activation.name in _KNOWN:
        return float(nn.init.calculate_gain(activation.name))  # type: ignore[arg-type]
    return integrated_gain(activation)


def integrated_gain(activation: Activation) -> float:
    """Return 1 / sqrt(E[f(z)^2]) for a standard normal z by the trapezoidal rule."""
    numbers = torch.linspace(-_SPAN, _SPAN, _POINTS, dtype=torch.float64)
    density = torch.exp(-numbers.square() / 2) / math.sqrt(2 * math.pi)
    power = torch.trapezoid(activation.function(numbers).square() * density, numbers)
    return 1 / math.sqrt(float(power))
