"""How an update is applied: by a host that reads the norm of the gradients first, or by the device alone.

The arithmetic is the same. On the CPU reading costs nothing, so the host decides. On a GPU reading means to wait until
everything that was asked of it is done, and the host could not prepare the next steps meanwhile; there the optimizer
gets a flag that lies on the device and changes nothing where the step is bad.
"""

import math
from typing import Any

import torch
from torch import Tensor

_RUN_AHEAD = ("cuda", "xpu")
"""Devices that work off what the host has asked for, while it asks for more."""
_EPSILON = 1e-6
"""As in `torch.nn.utils.clip_grad_norm_`."""


def waits_by_default(device: torch.device) -> bool:
    """Tell whether the host reads the norm before each update on a device."""
    return device.type not in _RUN_AHEAD


def takes_a_flag(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimizer skips a step by a flag on the device: the fused SGD, Adam and AdamW of torch, and Muon.

    RMSprop, NAdam and those that are not fused do not, nor does SGD with dampening, whose first step is unlike others.
    """
    if type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        return all(group["fused"] and not group.get("dampening") for group in optimizer.param_groups)
    return bool(getattr(optimizer, "takes_found_inf", False))


def apply_seen(
    optimizer: torch.optim.Optimizer,
    gradients: list[Tensor],
    norm: Tensor,
    *,
    scale: Tensor | None,
    clip_norm: float | None,
) -> bool:
    """Read the norm, and update if it is finite.

    Args:
        optimizer: over the parameters of the gradients.
        gradients: times the loss scale, if there is one; changed in place.
        norm: of the gradients without the loss scale, [].
        scale: the loss scale, [].
        clip_norm: the norm to clip to.

    Returns:
        Whether the update was applied.
    """
    length = norm.item()
    if not math.isfinite(length):
        return False
    if scale is not None:
        torch._foreach_mul_(gradients, scale.reciprocal())
    if clip_norm is not None and length > clip_norm:
        torch._foreach_mul_(gradients, clip_norm / (norm + _EPSILON))
    optimizer.step()
    return True


def apply_unseen(
    optimizer: torch.optim.Optimizer,
    gradients: list[Tensor],
    norm: Tensor,
    *,
    scale: Tensor | None,
    clip_norm: float | None,
) -> Tensor:
    """Do the same without waiting for the device, with an optimizer that takes a flag.

    Returns:
        Whether the update was applied, a truth value [] on the device.
    """
    applied = norm.isfinite()
    if scale is not None:
        torch._foreach_mul_(gradients, scale.reciprocal())
    if clip_norm is not None:
        # compared in float64, as Python does; a factor of one changes no bit
        keep = norm.double() <= clip_norm
        torch._foreach_mul_(gradients, (clip_norm / (norm + _EPSILON)).masked_fill_(keep, 1.0))
    if isinstance(optimizer, torch.optim.SGD):
        _begin_momentum(optimizer)
    flagged: Any = optimizer
    flagged.found_inf = applied.logical_not().float()  # as torch.amp.GradScaler hands it over
    optimizer.step()
    del flagged.found_inf
    return applied


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    """Give parameters that have a gradient for the first time their momentum.

    torch would make room for it without filling it, for the first step to overwrite; a skipped one would not. Minus
    zero is the one number that adds to every other, and to both zeros, without changing a bit.
    """
    for group in optimizer.param_groups:
        if group["momentum"]:
            for parameter in group["params"]:
                state = optimizer.state[parameter] if parameter.grad is not None else None
                if state is not None and state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.full_like(parameter.grad, -0.0)
