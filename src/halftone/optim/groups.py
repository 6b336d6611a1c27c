"""Which parameters share a rate and a decay."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from halftone.optim.config import OptimizerConfig

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
_TABLES = ("bias", "token", "pos_embed")
"""Parts of the names of what is added to activations: biases, tables of relative biases, tokens, positions."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are treated alike."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    decays: bool
    """Whether L1 and L2 apply."""
    scale: float
    """Factor on the learning rate."""
    matrices: bool
    """Whether these are weights of hidden layers, which Muon may take."""
    lane: str = ""
    """Which course of the schedule they follow; empty for the one of most."""
    decay_scale: float = 1.0
    """Factor on L2."""


@dataclass(frozen=True, slots=True)
class Courses:
    """What the rates of single parameters have of their own, by the parameters' names."""

    lanes: Mapping[str, str] = field(default_factory=dict)
    """Courses of the schedule. A frozen parameter that is named here will train later."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Factors on the rate."""
    decay_factors: Mapping[str, float] = field(default_factory=dict)
    """Factors on L2."""


def group_parameters(
    module: nn.Module, config: OptimizerConfig, *, head: tuple[str, ...], courses: Courses | None = None
) -> list[Group]:
    """Sort the parameters that train, or will, into body and head, weights and the rest, in a fixed order.

    All groups are there from the first step: what thaws later has a rate of zero until then, so that schedules and
    saved states fit throughout.

    Only weights decay, unless asked otherwise: norms, biases, scales, tokens and positions are exempt, since pulling
    them towards zero regularises nothing (Goyal et al. 2017, section 5.3; He et al. 2019, section 3.1).
    """
    exempt = _exempt(module)
    heads = tuple(f"{name}." if name else "" for name in head)
    courses = courses or Courses()
    members: dict[tuple[bool, bool, str, float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad or name in courses.lanes:
            lane, factor = courses.lanes.get(name, ""), courses.factors.get(name, 1.0)
            key = name.startswith(heads), id(parameter) in exempt, lane, factor, courses.decay_factors.get(name, 1.0)
            members.setdefault(key, []).append(parameter)
    return [
        Group(
            name=f"{'head' if in_head else 'body'}{', exempt' if is_exempt else ''}",
            parameters=tuple(parameters),
            decays=config.decay_all or not is_exempt,
            scale=factor * (config.head_lr if in_head else 1.0),
            matrices=not in_head and not is_exempt,
            lane=lane,
            decay_scale=decay,
        )
        for (in_head, is_exempt, lane, factor, decay), parameters in sorted(members.items(), key=lambda item: item[0])
    ]


def merged(groups: list[Group]) -> list[Group]:
    """Join groups that differ in name only: every group costs each step some microseconds."""
    joined: dict[tuple[bool, float, float, str], Group] = {}
    for group in groups:
        key = group.decays, group.scale, group.decay_scale, group.lane
        other = joined.get(key)
        joined[key] = group if other is None else replace(other, parameters=(*other.parameters, *group.parameters))
    return list(joined.values())


def _exempt(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that are not weights of linear maps."""
    found = set()
    for layer in module.modules():
        is_norm = isinstance(layer, _NORMS) or "norm" in type(layer).__name__.lower()
        for name, parameter in layer.named_parameters(recurse=False):
            # one number per channel, whatever its shape: [C], [C, 1, 1]
            is_vector = parameter.ndim == 0 or parameter.numel() == len(parameter)
            if is_norm or is_vector or any(part in name for part in _TABLES):
                found.add(id(parameter))
    return found


def torch_group(group: Group, lr: float, l2: float, **options: Any) -> dict[str, Any]:
    """Return a parameter group for a torch optimizer.

    Three entries are ours: `peak` keeps the rate that schedules scale, `lane` says by which of their courses, `decays`
    whether penalties apply.
    """
    rate = lr * group.scale
    return {
        "params": list(group.parameters),
        "lr": rate,
        "peak": rate,
        "lane": group.lane,
        "weight_decay": l2 * group.decay_scale if group.decays else 0.0,
        "decays": group.decays,
        **options,
    }
