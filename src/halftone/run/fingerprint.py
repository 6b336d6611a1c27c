"""What a run's last bits depend on, compared when it goes on: exactly, not exactly and why, or not at all."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halftone.base.errors import ModelFileError, ResourceError, listed, printable
from halftone.base.files import read_json, write_json
from halftone.run.environment import environment
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan

_FREE = (
    "run.",
    "data.workers",
    "data.root",
    "data.cache",
    "data.timeout",
    "keep_memory",
    "threads",
    "device",
    "deterministic",
)
"""Settings that may change between the processes of a run; of the last three it is said what they may change."""
_PLACES = ("processor", "device", "threads", "deterministic", "cuda", "cudnn")
_PACKAGES = ("halftone", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
"""Where what is computed is written; a change in any of them may change the last bits."""


def flat_settings(plan: Plan) -> dict[str, Any]:
    """Return all settings of a plan under their dotted names."""
    return dict(_flat(plan.settled.model_dump(mode="json")))


def write_fingerprint(folder: RunFolder, plan: Plan) -> None:
    """Note the settings with which a run begins."""
    write_json(folder.fingerprint, {"settings": flat_settings(plan), "resumed": []})


def check_same_settings(folder: RunFolder, plan: Plan) -> None:
    """Refuse to go on by a plan that was changed since the run began; older runs did not note theirs.

    Raises:
        ModelFileError: naming what was changed, or saying that the note is damaged.
    """
    before = _noted(folder).get("settings", {})
    now = flat_settings(plan)
    changes = [
        f"{name} was {before[name]} and is {now[name]}"
        for name in before
        if name in now and before[name] != now[name] and not name.startswith(_FREE)
    ]
    if changes:
        raise ModelFileError(
            f"{folder.plan.name} was changed since the run began: {listed(changes, most=3)}",
            hint="put it back, or start a new run from the weights: --weights best.safetensors",
        )


def resumed(folder: RunFolder, plan: Plan, checkpoint: Path, *, step: int) -> Iterator[str]:
    """Note that a run goes on, and say whether as exactly as if it had never been stopped, and if not, why.

    Args:
        folder: of the run.
        plan: by which it goes on.
        checkpoint: from which.
        step: that this holds.
    """
    noted = _noted(folder)
    reasons = [*_changes(folder, plan), *_earlier(noted), *_unsteady(plan)]
    how = f"not exact, because {'; '.join(reasons)}" if reasons else "exact, as if it had never been stopped"
    yield f"resumed from {checkpoint.name}: {how}"
    stops = [*noted.get("resumed", []), {"step": step, "not_exact": reasons}]
    try:
        write_json(folder.fingerprint, {**noted, "resumed": stops})
    except ResourceError as error:  # no reason not to train
        yield f"that the run went on is not noted: {error}"


def _changes(folder: RunFolder, plan: Plan) -> Iterator[str]:
    try:
        before = read_json(folder.environment)
    except ModelFileError as error:
        yield f"it is not known where it began: {error}"
        return
    now = environment(plan)
    for name in _PLACES:
        if name in before and before[name] != now[name]:
            yield printable(f"{name}: {before[name]} when the run began, {now[name]} now")
    versions = before.get("packages")
    if not isinstance(versions, dict):
        yield "it is not known with which versions it began"
        return
    for package in _PACKAGES:
        if package in versions and versions[package] != now["packages"][package]:
            yield printable(f"{package}: {versions[package]} when the run began, {now['packages'][package]} now")


def _earlier(noted: Mapping[str, Any]) -> Iterator[str]:
    for resumption in noted.get("resumed", []):
        if resumption["not_exact"]:
            yield printable(f"it was not at step {resumption['step']}, either: {resumption['not_exact'][0]}")
            return


def _unsteady(plan: Plan) -> Iterator[str]:
    device = plan.settled.device.partition(":")[0]
    if device != "cpu" and not plan.settled.deterministic:
        yield f"some kernels on {device} add in an order that is not fixed; --deterministic does without them"


def _noted(folder: RunFolder) -> dict[str, Any]:
    return read_json(folder.fingerprint) if folder.fingerprint.is_file() else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested records under their dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
