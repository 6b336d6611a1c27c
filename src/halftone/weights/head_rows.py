"""Rows of a head that mean the same class here and in a file, found by the classes' names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from halftone.base.errors import listed


@dataclass(frozen=True, slots=True)
class HeadRows:
    """For each class of a network, the row of a file's head that means it."""

    rows: tuple[int | None, ...]
    """None where the file does not know the class."""
    num_stored: int
    """Classes of the file."""
    names: tuple[str, ...]
    """The classes that the file knows, as the network calls them."""

    def __str__(self) -> str:
        names = listed(self.names, most=6)
        return f"head: {len(self.names)} of {len(self.rows)} classes carried over by name ({names})"


def match_classes(stored: Sequence[str], wanted: Sequence[str]) -> HeadRows:
    """Find classes by name: exactly, or else with `_`, `-`, space and the case of letters alike.

    A loose match counts only where one class on each side answers to it.

    Args:
        stored: the classes of the file, in the order of its rows.
        wanted: the classes of the network.
    """
    exact = {name: row for row, name in enumerate(stored)}
    missing = [name for name in wanted if name not in exact]
    loose = _alone({row: name for row, name in enumerate(stored) if name not in wanted})
    asking = _alone(dict(enumerate(missing)))
    found = {missing[place]: loose[key] for key, place in asking.items() if key in loose} | exact
    rows = tuple(found.get(name) for name in wanted)
    names = tuple(name for name, row in zip(wanted, rows, strict=True) if row is not None)
    return HeadRows(rows, len(stored), names)


def _alone(names: Mapping[int, str]) -> dict[str, int]:
    """Return the place of each name by its loose form, without forms that several names share."""
    places: dict[str, list[int]] = {}
    for place, name in names.items():
        places.setdefault(re.sub(r"[\s_-]+", " ", name).strip().casefold(), []).append(place)
    return {form: found[0] for form, found in places.items() if len(found) == 1}


def takes_rows(own: Tensor, given: Tensor, head: HeadRows) -> bool:
    """Tell whether both tensors of a head, [classes, ...], have a row for each class and rows of the same shape."""
    whole = own.ndim > 0 and given.ndim == own.ndim and own.shape[1:] == given.shape[1:]
    numbers = own.is_floating_point() and given.is_floating_point()
    return whole and numbers and len(own) == len(head.rows) and len(given) == head.num_stored


def with_rows(own: Tensor, given: Tensor, head: HeadRows) -> Tensor:
    """Return a tensor of a head, [classes, ...], with the rows of known classes from the file and the others as is."""
    mixed = own.detach().clone()
    for place, row in enumerate(head.rows):
        if row is not None:
            mixed[place] = given[row].to(mixed.dtype)
    return mixed
