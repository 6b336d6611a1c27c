"""Running a network without a trace: statistics, modes and random streams stay as they are, whatever is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def only_weights_change(model: nn.Module, *, seed: int) -> Iterator[None]:
    """Give back buffers, modes and the random streams as they were; until then the streams begin at a seed.

    So that what dropout draws here depends on nothing that was drawn before.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(list(devices)):
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
