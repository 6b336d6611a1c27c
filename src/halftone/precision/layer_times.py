"""Layers timed one by one: which of them are slower in a reduced format than in fp32."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from halftone.precision.config import PrecisionConfig
from halftone.precision.policy import own_format
from halftone.precision.trial import Trial
from halftone.system.device import wait_for

_GAIN = 1.1
"""A layer alone must be this many times as fast in fp32 to be proposed: what stands around it has a say, too."""
_WORTHWHILE = 0.002
"""A layer must save this share of the time of all layers."""
_REPEATS = 3


def slower_layers(trial: Trial, config: PrecisionConfig, *, until: float) -> list[str]:
    """Return the convolutions and linear layers that alone are faster in fp32, forward and backward together.

    Layers of the same shape are timed once. Those that have a format of their own already are left out, and so are
    those that would save next to nothing.

    Args:
        trial: takes the step in which the shapes of the inputs are seen.
        config: the precision to improve.
        until: reading of `time.perf_counter` at which to stop; what was not reached by then is not proposed.
    """
    seen = trial.inputs(config, lambda layer: isinstance(layer, _ConvNd | nn.Linear) and own_format(layer) is None)
    timed: dict[Any, tuple[float, float]] = {}
    keys = {}
    for name, example in seen.items():
        layer = trial.model.get_submodule(name)
        key = keys[name] = (repr(layer), tuple(example.shape), example.stride())
        if key not in timed:
            if time.perf_counter() > until:
                break
            timed[key] = _both(layer, example, trial.lowered(config))
    known = {name: timed[key] for name, key in keys.items() if key in timed}
    total = sum(lowered for lowered, _ in known.values())
    return [
        name
        for name, (lowered, full) in known.items()
        if full * _GAIN < lowered and lowered - full > _WORTHWHILE * total
    ]


def _both(layer: nn.Module, example: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """Return the seconds of a layer in a type and in fp32, from an input as it comes; the best of a few."""
    lowered, full = [], []
    for _ in range(_REPEATS + 1):
        lowered.append(_seconds(layer, example, dtype))
        full.append(_seconds(layer, example, None))
    return min(lowered[1:]), min(full[1:])


def _seconds(layer: nn.Module, example: Tensor, dtype: torch.dtype | None) -> float:
    """Time one forward and backward pass; in fp32 (dtype None) with the casting of the input that it needs."""
    inputs = example.detach().requires_grad_()
    kind = example.device.type
    wait_for(example.device)
    clock = time.perf_counter()
    with torch.autocast(kind, dtype, enabled=dtype is not None):
        outputs = type(layer).forward(layer, inputs if dtype is not None else inputs.float())
    outputs.backward(torch.ones_like(outputs))
    wait_for(example.device)
    return time.perf_counter() - clock
