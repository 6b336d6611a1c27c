"""Layers that stand still, from or to some time: no gradient for their parameters, no moving statistics."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from halftone.base.errors import RecipeError, closest, listed
from halftone.base.lengths import Span
from halftone.base.patterns import is_within, matches
from halftone.base.records import Record

BACKBONE = "backbone"
Stages = Sequence[Sequence[str]]
"""The layers of each stage of a network, first the one that sees the pixels."""


class Thaw(Record):
    """Layers that begin to train in the course of a run."""

    name: str
    step: int
    """Optimizer updates before that."""
    parameters: tuple[str, ...]
    """Their names."""


class Halt(Record):
    """Layers that stop training in the course of a run."""

    name: str
    step: int
    """Optimizer updates until then."""
    parameters: tuple[str, ...]
    """Their names."""


class Freezing:
    """What stands still in a network, what of it thaws when, and what else comes to stand still."""

    def __init__(self, module: nn.Module, thaws: Sequence[Thaw] = (), halts: Sequence[Halt] = ()) -> None:
        """Take a network whose frozen parameters want no gradient."""
        self._parameters = dict(module.named_parameters())
        self._all_norms = list(_norms(module))
        self._norms = [(norm, ruling) for norm, ruling in self._all_norms if not _moves(ruling)]
        self._waiting = sorted(thaws, key=lambda thaw: thaw.step)
        self._ending = sorted(halts, key=lambda halt: halt.step)

    @property
    def norms(self) -> list[nn.Module]:
        """The normalisation layers whose statistics stand still."""
        return [norm for norm, _ in self._norms]

    @property
    def next_step(self) -> float:
        """The optimizer step in which layers thaw or halt next; infinite if none do."""
        thaw = self._waiting[0].step if self._waiting else math.inf
        halt = self._ending[0].step if self._ending else math.inf
        return min(thaw, halt)

    def thaw(self, step: int) -> list[Thaw]:
        """Let the layers train whose time has come; return them."""
        thawed = [thaw for thaw in self._waiting if thaw.step <= step]
        self._waiting = self._waiting[len(thawed) :]
        for thaw in thawed:
            for name in thaw.parameters:
                self._parameters[name].requires_grad_(True)
        for norm, ruling in self._norms:
            if _moves(ruling):
                norm.train()
        self._norms = [(norm, ruling) for norm, ruling in self._norms if not _moves(ruling)]
        return thawed

    def halt(self, step: int) -> list[Halt]:
        """Let the layers stand still whose time has come; return them."""
        halted = [halt for halt in self._ending if halt.step <= step]
        self._ending = self._ending[len(halted) :]
        for halt in halted:
            for name in halt.parameters:
                self._parameters[name].requires_grad_(False)
        if halted:
            self._norms = [(norm, ruling) for norm, ruling in self._all_norms if not _moves(ruling)]
            self.hold_still()
        return halted

    def hold_still(self) -> None:
        """Put frozen normalisation layers into evaluation mode; to be called whenever the network enters training."""
        for norm in self.norms:
            norm.eval()


def _norms(module: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Yield the normalisations with statistics and what rules them: their parameters, or those they follow."""
    ruling: list[nn.Parameter] = []
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        ruling = own or ruling
        if isinstance(layer, _NormBase) and ruling:
            yield layer, ruling


def _moves(parameters: Sequence[nn.Parameter]) -> bool:
    return any(parameter.requires_grad for parameter in parameters)


def freeze(module: nn.Module, patterns: Sequence[str], *, head: Sequence[str], stages: Stages = ()) -> list[str]:
    """Freeze parameters by name pattern; `backbone` means all but the head, a number that many stages.

    A pattern matches a parameter by its full name, or a layer and all below it by the layer's name.

    Returns:
        The names of the parameters that are frozen.

    Raises:
        RecipeError: a pattern matches nothing, or nothing is left to train; nothing was frozen.
    """
    frozen: set[str] = set()
    for pattern in patterns:
        matched = {name for name, _ in module.named_parameters() if _means(name, pattern, head, stages)}
        if not matched:
            raise RecipeError(
                f"weights.freeze = '{pattern}' matches no parameter", hint=_suggestion(module, pattern, stages)
            )
        frozen |= matched
    moving = [name for name, parameter in module.named_parameters() if name not in frozen and parameter.requires_grad]
    if not moving:
        hint = "leave the head free: weights.freeze backbone" if head else "name the layers that stand still"
        raise RecipeError("weights.freeze leaves nothing to train", hint=hint)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return [name for name, _ in module.named_parameters() if name in frozen]


def plan_thaws(
    frozen: Sequence[str],
    wish: Span | Mapping[str, Span],
    *,
    stages: Mapping[str, Sequence[str]],
    steps: Callable[[Span], int],
) -> tuple[Thaw, ...]:
    """Say which frozen parameters thaw when.

    Args:
        frozen: their names.
        wish: a length after each of which one more stage thaws, from the head down; or lengths by name pattern.
        stages: the layers of each stage by its name, first the one that sees the pixels.
        steps: from a length to optimizer steps.

    Raises:
        RecipeError: a pattern matches nothing that is frozen.
    """
    if isinstance(wish, Span):
        inside = {stage: [name for name in frozen if is_within(name, layers)] for stage, layers in stages.items()}
        named = [(stage, members) for stage, members in reversed(inside.items()) if members]
        whens = [steps(wish) * number for number in range(1, len(named) + 1)]
    else:
        named = [(pattern, [name for name in frozen if matches(name, pattern)]) for pattern in wish]
        whens = [steps(span) for span in wish.values()]
    thaws, taken = [], set[str]()
    for (name, members), step in sorted(zip(named, whens, strict=True), key=lambda pair: pair[1]):
        if not members:
            raise RecipeError(
                f"weights.unfreeze = '{name}' matches no frozen parameter",
                hint=closest(name, list(stages)) or f"the stages are {listed(list(stages))}",
            )
        thaws.append(Thaw(name=name, step=step, parameters=tuple(one for one in members if one not in taken)))
        taken.update(members)
    return tuple(thaw for thaw in thaws if thaw.parameters)


def plan_halts(
    module: nn.Module, wish: Mapping[str, Span], thaws: Sequence[Thaw], *, steps: Callable[[Span], int]
) -> tuple[Halt, ...]:
    """Say which parameters stop training when; of several patterns that mean one, the earliest counts.

    Args:
        module: the network, with what is frozen from the start.
        wish: lengths by name pattern.
        thaws: what of the frozen parameters will train.
        steps: from a length to optimizer steps.

    Raises:
        RecipeError: a pattern matches nothing that trains, thaws later, or nothing would be left to train.
    """
    begins = {name: thaw.step for thaw in thaws for name in thaw.parameters}
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad or name in begins]
    halts, taken = [], set[str]()
    for pattern, step in sorted(((one, steps(span)) for one, span in wish.items()), key=lambda pair: pair[1]):
        members = [name for name in trained if matches(name, pattern)]
        if not members:
            raise RecipeError(
                f"weights.freeze_after = '{pattern}' matches no parameter that trains",
                hint=closest(pattern, trained) or f"a parameter or layer such as {trained[0]}",
            )
        late = next((name for name in members if begins.get(name, -1) >= step), None)
        if late is not None or step < 1:
            raise RecipeError(
                f"weights.freeze_after = '{pattern}': {late or members[0]} would stop in step {step}, before it trains",
                hint="a later time, or weights.freeze",
            )
        halts.append(Halt(name=pattern, step=step, parameters=tuple(one for one in members if one not in taken)))
        taken.update(members)
    if halts and taken == set(trained):
        raise RecipeError("weights.freeze_after leaves nothing to train", hint="name the layers that stop")
    return tuple(halt for halt in halts if halt.parameters)


def _means(name: str, pattern: str, head: Sequence[str], stages: Stages) -> bool:
    """Tell whether a pattern means a tensor."""
    if pattern == BACKBONE:
        return not name.startswith(tuple(f"{layer}." for layer in head))
    if pattern.isdecimal() and stages:
        return any(is_within(name, layers) for layers in stages[: int(pattern)])
    return matches(name, pattern)


def _suggestion(module: nn.Module, pattern: str, stages: Stages) -> str:
    names = [name for name, _ in module.named_modules() if name]
    if pattern.isdecimal():
        return f"the network has {len(stages)} stages before its head"
    example = f", or a pattern over layers such as '{names[0]}*'" if names else ""
    return closest(pattern, names) or f"use 'backbone'{example}"
