"""Patterns over the names of layers: `features.0.*`, `layer4`, `*.norm1`."""

from fnmatch import fnmatchcase


def matches(name: str, pattern: str) -> bool:
    """Tell whether a pattern means a layer or parameter, by its own name or by that of a layer around it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))
