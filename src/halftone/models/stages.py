"""The stages of a network from the pixels to the head, found in any module by its structure."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from halftone.base.patterns import is_within

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_MOST_OF_IT = 0.8
"""Of the parameters; a part that holds more is no stage of its own but a row of them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a network between two others."""

    name: str
    """Of its layers, such as `layer3` or `conv1+bn1`."""
    layers: tuple[str, ...]
    """Names of modules or parameters; all below them belong to it."""


def find_stages(module: nn.Module, head: tuple[str, ...]) -> tuple[Stage, ...]:
    """Return the stages before the head, first the one that sees the pixels.

    The children of a network are its stages; a child that holds the head, almost everything, or is one of only two
    is taken apart. Normalisations go with what they follow, and tokens and positions with what follows them.
    """
    units = _parts(module, "", head)
    while (row := _row(module, units, head)) is not None:
        place = units.index(row)
        units[place : place + 1] = _parts(module.get_submodule(row), f"{row}.", head)
    modules = dict(module.named_modules())
    stages: list[list[str]] = []
    for name in units:
        only_loose = stages and not any(earlier in modules for earlier in stages[-1])
        if stages and (only_loose or name not in modules or isinstance(modules[name], _NORMS)):
            stages[-1].append(name)
        else:
            stages.append([name])
    return tuple(Stage("+".join(names), tuple(names)) for names in stages)


def stage_numbers(module: nn.Module, stages: tuple[Stage, ...]) -> Iterator[tuple[str, int]]:
    """Yield the names of the parameters with the number of their stage; the head's is the number of stages."""
    for name, _ in module.named_parameters():
        yield name, next((number for number, stage in enumerate(stages) if is_within(name, stage.layers)), len(stages))


def _parts(module: nn.Module, prefix: str, head: tuple[str, ...]) -> list[str]:
    """Return the full names of a module's own parameters and of its children that have any, the head left out."""
    own = [name for name, _ in module.named_parameters(recurse=False)]
    children = [name for name, child in module.named_children() if _size(child)]
    return [prefix + name for name in own + children if prefix + name not in head]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _row(module: nn.Module, units: list[str], head: tuple[str, ...]) -> str | None:
    """Return the unit that is a row of stages and must be taken apart, the largest first, or None."""
    modules = dict(module.named_modules())
    sizes = {name: _size(modules[name]) for name in units if name in modules}
    few = len({name.partition(".")[0] for name in sizes}) <= 2
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if any(layer.startswith(f"{name}.") for layer in head):
            return name
        is_most = sizes[name] > _MOST_OF_IT * sum(sizes.values())
        is_one_of_two = few and "." not in name and isinstance(modules[name], nn.Sequential | nn.ModuleList)
        if (is_most or is_one_of_two) and sum(_size(child) > 0 for child in modules[name].children()) >= 2:
            return name
    return None
