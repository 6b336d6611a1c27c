"""Where a run took place: versions and hardware, without names of people or machines."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from halftone.base.files import read_json
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan
from halftone.system.device import cpu_name

_PACKAGES = ("halftone", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def environment(plan: Plan) -> dict[str, Any]:
    """Describe what the results may depend on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": cpu_name(),
        "device": plan.device,
        "threads": plan.settled.threads,
        "cuda": torch.version.cuda if plan.settled.device.startswith("cuda") else None,
        "cudnn": torch.backends.cudnn.version() if plan.settled.device.startswith("cuda") else None,
    }


def changed_surroundings(folder: RunFolder, now: Mapping[str, Any]) -> Iterator[str]:
    """Say in which ways that may change the last bits a run goes on elsewhere than it began."""
    if not folder.environment.is_file():
        return
    before = read_json(folder.environment)
    for name in ("processor", "device", "cuda", "cudnn"):
        if before.get(name) != now[name]:
            yield f"the {name} was {before.get(name)} when the run began, and is {now[name]} now"
    versions = before.get("packages")
    if not isinstance(versions, dict):
        versions = {}
    for package in ("torch", "torchvision", "numpy", "pillow"):
        if versions.get(package) != now["packages"][package]:
            yield f"{package} was {versions.get(package)} when the run began, and is {now['packages'][package]} now"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
