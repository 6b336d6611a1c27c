"""What a reader of a comparison should know beside its numbers."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from halftone.base.errors import listed
from halftone.base.files import read_json
from halftone.comparison.records import Outcome
from halftone.run.folder import RunFolder

_SHARED = {
    "weights": "start from the same weights",
    "order": "see the images in the same order",
    "images": "see the same first batch after augmentation",
}


def notes_of(
    outcomes: Sequence[Outcome],
    *,
    no_joules: Iterable[str],
    devices: Sequence[str],
    num_continued: int,
    num_planned: int,
) -> Iterator[str]:
    """Say what runs of a seed share, what was not measured, and what may disturb the figures.

    Args:
        outcomes: of all runs.
        no_joules: of each run, why its energy was not measured; empty where it was.
        devices: on which runs went on at the same time.
        num_continued: runs that were interrupted and went on.
        num_planned: runs that there would have been without an early end.
    """
    yield from _shared(outcomes)
    reasons = dict.fromkeys(reason for reason in no_joules if reason)
    if reasons:
        yield f"No joules: {listed(reasons)}."
    if len(devices) > 1:
        yield f"Up to {len(devices)} runs went on at the same time and may have slowed each other: mind the times."
    if num_continued:
        yield f"{num_continued} of the runs were interrupted and went on from a checkpoint; their energy is unknown."
    if len(outcomes) < num_planned:
        yield f"Stopped after {len(outcomes)} of at most {num_planned} runs, when every verdict was clear."
    faults = [f"{one.variant}, seed {one.seed}: {one.fault}" for one in outcomes if one.fault]
    yield from faults


def _shared(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Tell by the hashes what all runs of each seed share."""
    same: list[str] = []
    different: list[str] = []
    for name, text in _SHARED.items():
        found = _found(outcomes, name)
        if found is not None:
            (same if found else different).append(text)
    if same:
        yield f"Runs of one seed {_joined(same)} (compared by hash)."
    if different:
        yield f"Runs of one seed do not {_joined(different)}: what varies does not allow it."


def _found(outcomes: Sequence[Outcome], name: str) -> bool | None:
    """Tell whether hashes agree within every seed; None where fewer than two are known of each."""
    hashes: dict[int, list[str]] = {}
    for one in outcomes:
        value: str = getattr(one.digests, name)
        if value:
            hashes.setdefault(one.seed, []).append(value)
    several = [values for values in hashes.values() if len(values) > 1]
    return all(len(set(values)) == 1 for values in several) if several else None


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def surroundings(paths: Iterable[Path]) -> dict[str, str]:
    """Return where runs were trained; a value that differs between them is named with all its forms."""
    found: dict[str, dict[str, None]] = {}
    for path in paths:
        file = RunFolder(path).environment
        values = read_json(file) if file.is_file() else {}
        packages = {name: version for name, version in values.pop("packages", {}).items() if version}
        for name, value in {**values, **packages}.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: " / ".join(values) for name, values in found.items()}
