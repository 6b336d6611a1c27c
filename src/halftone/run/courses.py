"""Which parameters of a network go their own way: frozen, thawing, at rates of their own."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

from torch import nn

from halftone.base.errors import RecipeError, closest
from halftone.base.lengths import Span
from halftone.base.patterns import matches
from halftone.models.built import Built
from halftone.models.stages import find_stages, stage_numbers
from halftone.optim.config import OptimizerConfig
from halftone.optim.groups import Courses
from halftone.run.recipe import Recipe
from halftone.schedule.lanes import Lane
from halftone.weights.config import WeightsConfig
from halftone.weights.freeze import Halt, Thaw, freeze, plan_halts, plan_thaws


def stand_still(built: Built, config: WeightsConfig, *, module: nn.Module | None = None) -> list[str]:
    """Freeze what a recipe wants frozen; return the names of those parameters.

    Args:
        built: the network.
        config: of its weights.
        module: a copy of it to be frozen in its place.

    Raises:
        RecipeError: a freeze matches nothing, or leaves nothing to train.
    """
    if not config.freeze:
        return []
    stages = [stage.layers for stage in find_stages(built.module, built.head)]
    return freeze(module or built.module, config.freeze, head=built.head, stages=stages)


def thaws_of(
    built: Built, config: WeightsConfig, frozen: Sequence[str], *, steps_per_epoch: int, total_steps: int
) -> tuple[Thaw, ...]:
    """Say what of the frozen parameters thaws when.

    Raises:
        RecipeError: an entry of `weights.unfreeze` matches nothing that is frozen.
    """
    if config.unfreeze is None:
        return ()
    steps = partial(Span.steps, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    stages = {stage.name: stage.layers for stage in find_stages(built.module, built.head)}
    return plan_thaws(frozen, config.unfreeze, stages=stages, steps=steps)


def halts_of(
    built: Built, config: WeightsConfig, thaws: Sequence[Thaw], *, steps_per_epoch: int, total_steps: int
) -> tuple[Halt, ...]:
    """Say which parameters stop training when.

    Raises:
        RecipeError: an entry of `weights.freeze_after` matches nothing that trains, or too much.
    """
    steps = partial(Span.steps, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    return plan_halts(built.module, config.freeze_after, thaws, steps=steps)


def courses_of(
    built: Built,
    recipe: Recipe,
    thaws: Sequence[Thaw],
    halts: Sequence[Halt] = (),
    *,
    steps_per_epoch: int,
    total_steps: int,
) -> tuple[Courses, dict[str, Lane]]:
    """Return what the rates of single parameters have of their own, and the lanes of the schedule for it.

    Raises:
        RecipeError: an entry of `optimizer.layer_lr` or `optimizer.layer_l2` matches nothing.
    """
    config, bias = recipe.optimizer, recipe.warmup.bias
    rise = recipe.weights.unfreeze_warmup.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    thaw_of = {name: thaw for thaw in thaws for name in thaw.parameters}
    halt_of = {name: halt for halt in halts for name in halt.parameters}
    of: dict[str, str] = {}
    lanes: dict[str, Lane] = {}
    for name, parameter in built.module.named_parameters():
        thaw, halt = thaw_of.get(name), halt_of.get(name)
        own_start = bias if name.rpartition(".")[2] == "bias" else None
        if (thaw is None and halt is None and own_start is None) or (thaw is None and not parameter.requires_grad):
            continue
        parts = ["biases"] * (own_start is not None) + ([] if thaw is None else [thaw.name])
        lane = ", ".join(parts + ([] if halt is None else [f"until step {halt.step}"]))
        of[name] = lane
        lanes[lane] = Lane(
            begins=0 if thaw is None else thaw.step,
            warmup_steps=rise,
            bias=own_start,
            ends=inf if halt is None else halt.step,
        )
    decay_factors = _by_pattern(built, config.layer_l2, "layer_l2")
    return Courses(of, _factors(built, config), decay_factors), lanes


def _factors(built: Built, config: OptimizerConfig) -> dict[str, float]:
    """Return the factors on the rates: by the distance from the head, and by pattern."""
    factors: dict[str, float] = {}
    if config.layer_decay < 1:
        stages = find_stages(built.module, built.head)
        for name, number in stage_numbers(built.module, stages):
            factors[name] = config.layer_decay ** (len(stages) - number)
    for name, factor in _by_pattern(built, config.layer_lr, "layer_lr").items():
        factors[name] = factors.get(name, 1.0) * factor
    return factors


def _by_pattern(built: Built, wanted: Mapping[str, float], setting: str) -> dict[str, float]:
    """Return factors by the names of the parameters, from factors by pattern, which multiply."""
    factors: dict[str, float] = {}
    names = [name for name, _ in built.module.named_parameters()]
    for pattern, factor in wanted.items():
        matched = [name for name in names if matches(name, pattern)]
        if not matched:
            layers = [name for name, _ in built.module.named_modules() if name]
            raise RecipeError(
                f"optimizer.{setting}: '{pattern}' matches no parameter",
                hint=closest(pattern, layers) or "`halftone plan` shows the stages of the network",
            )
        factors |= {name: factors.get(name, 1.0) * factor for name in matched}
    return factors
