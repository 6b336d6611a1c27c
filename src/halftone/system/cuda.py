"""NVIDIA's side of the machine: tensor cores, kernels that torch brings, the driver and cuDNN."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

Capability = tuple[int, int]
"""A CUDA compute capability, (major, minor)."""

_GENERATIONS: tuple[tuple[Capability, str, tuple[str, ...]], ...] = (
    ((7, 0), "Volta", ("fp16",)),
    ((7, 5), "Turing", ("fp16",)),
    ((8, 0), "Ampere", ("tf32", "bf16", "fp16")),
    ((8, 9), "Ada", ("tf32", "bf16", "fp16", "fp8")),
    ((9, 0), "Hopper", ("tf32", "bf16", "fp16", "fp8")),
    ((10, 0), "Blackwell", ("tf32", "bf16", "fp16", "fp8", "fp4")),
    ((13, 0), "newer than Blackwell", ("tf32", "bf16", "fp16", "fp8", "fp4")),
)
_TURING_WITHOUT = re.compile(r"GTX 16\d\d|\bMX[45]50\b|\bT(400|500|550|600|1000|1200|2000)\b")
"""Names of cards with the chips TU116 and TU117, which are Turing (7.5) without tensor cores."""
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA's major version: the oldest driver that runs it (NVIDIA, CUDA Compatibility, table of minor versions)."""
_PATIENCE = 20
"""Seconds that nvidia-smi may take; with many cards and a sleeping driver it takes several."""


@dataclass(frozen=True, slots=True)
class TensorCores:
    """The units of a GPU that multiply small matrices in reduced formats."""

    generation: str
    """NVIDIA's name of the architecture."""
    formats: tuple[str, ...]
    """Out of `tf32`, `bf16`, `fp16`, `fp8`, `fp4`, from wide to narrow; whole numbers are left out."""


def tensor_cores(major: int, minor: int, name: str = "") -> TensorCores | None:
    """Return what the tensor cores of a GPU multiply, by compute capability, or None where there are none.

    Args:
        major: of the compute capability.
        minor: of the compute capability.
        name: of the card. The GTX 16 series and its relatives are Turing without tensor cores, which only the name
            tells.
    """
    reached = [(title, formats) for first, title, formats in _GENERATIONS if first <= (major, minor)]
    if not reached or ((major, minor) == (7, 5) and _TURING_WITHOUT.search(name)):
        return None
    return TensorCores(*reached[-1])


def has_kernels(built_for: Iterable[str], capability: Capability) -> bool:
    """Tell whether one of the architectures that torch is built for runs on a GPU.

    Machine code (`sm_86`) runs within its major version, from its minor version on; with an `a` (`sm_90a`), on
    that very one. PTX (`compute_90`) is translated for anything newer. Jetson modules have rules of their own, which
    are not followed here.

    Args:
        built_for: as `torch.cuda.get_arch_list()` returns them.
        capability: of the GPU.
    """
    for architecture in built_for:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if found is None:
            continue
        code, (major, minor) = (int(found[2]), int(found[3])), capability
        if found[4] == "a":
            runs = capability == code
        elif found[1] == "compute" and not found[4]:
            runs = capability >= code
        else:
            runs = major == code[0] and minor >= code[1]
        if runs:
            return True
    return False


@dataclass(frozen=True, slots=True)
class NvidiaDriver:
    """What nvidia-smi says of the driver: its version, or why there is no answer."""

    version: str = ""
    """Such as `580.65.06`."""
    fault: str = ""


def nvidia_driver() -> NvidiaDriver | None:
    """Ask nvidia-smi for the version of the driver; None where there is no nvidia-smi. torch does not tell it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)  # noqa: S603 a fixed command
    except subprocess.TimeoutExpired:
        return NvidiaDriver(fault=f"no answer within {_PATIENCE} seconds")
    except (OSError, UnicodeDecodeError) as error:
        return NvidiaDriver(fault=str(error))
    return read_driver(done.stdout, done.stderr)


def read_driver(output: str, errors: str = "") -> NvidiaDriver:
    """Read what nvidia-smi answered: one version for each GPU, all the same, or a sentence that says what is wrong."""
    lines = [line.strip() for line in (output + "\n" + errors).splitlines() if line.strip()]
    if lines and re.fullmatch(r"\d+(\.\d+)+", lines[0]):
        return NvidiaDriver(version=lines[0])
    return NvidiaDriver(fault=lines[0] if lines else "no answer")


def driver_fits(driver_version: str, cuda_version: str) -> bool:
    """Tell whether a driver such as `535.104.05` runs programs built for CUDA `12.8`. A CUDA not yet known fits."""
    driver, cuda = major_version(driver_version), major_version(cuda_version)
    return driver >= OLDEST_DRIVER.get(cuda, 0)


def major_version(version: str) -> int:
    """Return the first number of a version."""
    return int(version.partition(".")[0])


def cudnn_versions() -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return the versions of cuDNN that torch was compiled with and that is loaded; None where torch has none."""
    try:
        from torch._C import _cudnn
    except ImportError:
        return None
    return _cudnn.getCompileVersion(), _cudnn.getRuntimeVersion()
