"""What measuring must leave as it was."""

import random
from typing import Any

import numpy as np
import torch
from torch import nn


def everything(model: nn.Module) -> list[Any]:
    """All that a measurement could disturb."""
    tensors = [value.detach().numpy().tobytes() for value in model.state_dict().values()]
    flags = [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()]
    streams = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    process = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    return [tensors, flags, [layer.training for layer in model.modules()], streams, process]
