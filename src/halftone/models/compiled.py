"""A network compiled by torch.compile."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.errors import ResourceError


def compiled(module: nn.Module) -> Callable[[Tensor], Any]:
    """Return the network as torch.compile makes it, with the same parameters; it compiles when it is first called.

    Each size of batch is compiled by itself. Layers with a number format of their own keep it.

    Raises:
        ResourceError: when called, if the network or this machine cannot be compiled for.
    """
    forward = torch.compile(module, dynamic=False)

    def call(images: Tensor) -> Any:
        try:
            return forward(images)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            said = " ".join(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0].split())
            raise ResourceError(
                f"model.compile: the network cannot be compiled here: {said[:200]}",
                hint="leave --model.compile out; on a CPU torch.compile needs a C++ compiler",
            ) from error

    return call
