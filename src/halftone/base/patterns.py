"""Names of layers, and patterns over them: `features.0.*`, `layer4`, `*.norm1`."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(name: str, pattern: str) -> bool:
    """Tell whether a pattern means a layer or parameter, by its own name or by that of a layer around it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))


def is_within(name: str, layers: Iterable[str]) -> bool:
    """Tell whether a layer or parameter is one of some layers, or lies below one, by their names."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
