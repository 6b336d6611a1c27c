"""Where a run took place: versions and hardware, without names of people or machines."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from halftone.run.plan.record import Plan
from halftone.system.device import cpu_name

_PACKAGES = ("halftone", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "safetensors")


def environment(plan: Plan) -> dict[str, Any]:
    """Describe what the results may depend on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": cpu_name(),
        "device": plan.device,
        "threads": plan.settled.threads,
        "deterministic": plan.settled.deterministic,
        "cuda": torch.version.cuda if plan.settled.device.startswith("cuda") else None,
        "cudnn": torch.backends.cudnn.version() if plan.settled.device.startswith("cuda") else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
