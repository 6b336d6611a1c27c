"""From a settled configuration to an optimizer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.records import decided
from halftone.optim.config import OptimizerConfig
from halftone.optim.groups import Courses, Group, group_parameters, merged, torch_group
from halftone.optim.muon import Muon

_FUSED = ("cpu", "cuda", "xpu", "mps")
"""Devices for which torch has fused updates by SGD, Adam and AdamW."""


def build_optimizer(
    module: nn.Module, config: OptimizerConfig, *, head: tuple[str, ...], courses: Courses | None = None
) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters of a network on its device that train, or will.

    Each group carries its peak rate as `peak`; see `set_rates`. The fused implementation is used where torch has
    one for the device.
    """
    groups = group_parameters(module, config, head=head, courses=courses)
    lr, l2 = decided(config.lr), decided(config.l2)
    fused = True if groups[0].parameters[0].device.type in _FUSED else None
    momentum, betas = config.momentum, (config.beta1, config.beta2)
    described = [torch_group(group, lr, l2) for group in merged(groups)]
    match decided(config.name):
        case "sgd":
            return torch.optim.SGD(described, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
        case "adam":
            return torch.optim.Adam(described, lr=lr, betas=betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(described, lr=lr, betas=betas, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(described, lr=lr, momentum=momentum)
        case "nadam":
            return torch.optim.NAdam(described, lr=lr, betas=betas, decoupled_weight_decay=True)
        case "muon":
            return Muon(_muon_groups(groups, config, fused), momentum=momentum, betas=betas)
        case _:
            raise AssertionError(config.name)


def _muon_groups(groups: list[Group], config: OptimizerConfig, fused: bool | None) -> Iterator[dict[str, Any]]:
    """Split each group into matrices, which Muon takes, and the rest; filters on pixels or one channel are rest."""
    lr, rest_lr, l2 = decided(config.lr), decided(config.rest_lr), decided(config.l2)
    orthogonal = {
        "iterations": config.iterations,
        "update_size": config.update_size,
        "normalise": config.normalise,
    }
    others: dict[str, Any] = {"rest": config.rest, "fused": fused}
    if config.rest_momentum is not None:
        others["momentum"] = config.rest_momentum
    for group in groups:
        matrices = tuple(p for p in group.parameters if group.matrices and p.ndim >= 2 and p.shape[1] > 3)
        chosen = {id(parameter) for parameter in matrices}
        rest = tuple(p for p in group.parameters if id(p) not in chosen)
        if matrices:
            yield torch_group(replace(group, parameters=matrices), lr, l2, orthogonal=True, **orthogonal)
        if rest:
            yield torch_group(replace(group, parameters=rest), rest_lr, l2, orthogonal=False, **others)


def set_rates(optimizer: torch.optim.Optimizer, share: Callable[[str], float | Tensor]) -> None:
    """Set the rate of each group to a share of its peak.

    Args:
        optimizer: of `build_optimizer`.
        share: of the peak, by the lane of a group. One that lies on the device, [] in float64, makes rates that lie
            there, for optimizers that take them. The fused ones read them on a GPU as float32.
    """
    shares = {lane: share(lane) for lane in {group["lane"] for group in optimizer.param_groups}}
    for group in optimizer.param_groups:
        rate = group["peak"] * shares[group["lane"]]
        group["lr"] = rate.float() if isinstance(rate, Tensor) and rate.device.type != "cpu" else rate


def usual_momentum(config: OptimizerConfig) -> float:
    """Return the momentum that a schedule may move: beta1 for the adam family."""
    return config.beta1 if config.name in ("adam", "adamw", "nadam") else config.momentum


def set_momentum(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the momentum of each group, or beta1 in the adam family."""
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = value
        else:
            group["betas"] = (value, group["betas"][1])
