"""Whether two runs came to the same end, to the last bit: states, weights, and every row of their tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halftone.base.errors import ModelFileError
from halftone.base.tables import read_table
from halftone.loop.components import Difference, components, digest, first_difference
from halftone.run.checkpoint import load_newest
from halftone.run.fingerprint import flat_settings
from halftone.run.folder import RunFolder
from halftone.weights.files import load_sealed

CLOCKED = frozenset({"seconds", "images_per_second", "peak_memory_mb", "train_seconds", "data_wait_seconds"})
"""Columns that the clock and the system decide."""


def final_state(folder: RunFolder) -> dict[str, Any]:
    """Return the components of the newest state that a run saved; of a finished one, its last.

    Raises:
        ModelFileError: there is none that is whole.
    """
    state, _, _ = load_newest(folder.checkpoints)
    return components(state)


def state_digest(folder: RunFolder) -> str:
    """Return the hash of the newest state that a run saved; see `halftone.loop.components.digest`.

    Raises:
        ModelFileError: there is none that is whole.
    """
    return digest(final_state(folder))


def differences(straight: RunFolder, other: RunFolder) -> Iterator[Difference]:
    """Yield where two finished runs part: a setting, a step, an epoch, and the first component of each file of state.

    Raises:
        ModelFileError: a file is missing or damaged.
    """
    found = first_difference(_settings(straight), _settings(other))
    if found is not None:
        yield Difference(f"plan, {found.name}", found.how)
    for table, counter in (("steps.csv", "step"), ("results.csv", "epoch")):
        yield from _of_tables(straight.path / table, other.path / table, counter)
    found = first_difference(final_state(straight), final_state(other))
    if found is not None:
        yield Difference(f"final state, {found.name}", found.how)
    for name in ("best.safetensors", "last.safetensors"):
        yield from _of_weights(straight.path / name, other.path / name)


def _settings(run: RunFolder) -> dict[str, Any]:
    """Return the settings that matter to the end: not where a run lies, nor how often it is saved."""
    settings = flat_settings(run.read_plan())
    return {name: value for name, value in settings.items() if not name.startswith(("run.", "data.workers"))}


def _of_tables(one: Path, other: Path, counter: str) -> Iterator[Difference]:
    """Yield the first cell that differs; every row is wanted, once, in its order."""
    left, right = (
        [{name: cell for name, cell in row.items() if name not in CLOCKED} for row in read_table(path)]
        for path in (one, other)
    )
    for number, (row, its) in enumerate(zip(left, right, strict=False), start=1):
        column = next((name for name in row if row[name] != its.get(name)), None)
        if column is not None:
            yield Difference(f"{one.name}, {column} of {counter} {number}", f"{row[column]} and {its.get(column)}")
            return
    if len(left) != len(right):
        yield Difference(one.name, f"{len(left)} rows and {len(right)}")


def _of_weights(one: Path, other: Path) -> Iterator[Difference]:
    if one.is_file() != other.is_file():
        raise ModelFileError(f"only one of {one} and {other} is there")
    if one.is_file():
        found = first_difference(load_sealed(one).tensors, load_sealed(other).tensors)
        if found is not None:
            yield Difference(f"{one.name}, {found.name}", found.how)
