"""Tensor cores, kernels, driver and cuDNN of machines that are not this one."""

import subprocess

import pytest
import torch

from halftone.system import cuda as room
from halftone.system.cuda import (
    NvidiaDriver,
    cudnn_versions,
    driver_fits,
    has_kernels,
    nvidia_driver,
    read_driver,
    tensor_cores,
)

AMPERE = ("tf32", "bf16", "fp16")


@pytest.mark.parametrize(
    ("capability", "name", "generation", "formats"),
    [
        ((7, 0), "Tesla V100-SXM2-16GB", "Volta", ("fp16",)),
        ((7, 2), "Xavier", "Volta", ("fp16",)),
        ((7, 5), "Tesla T4", "Turing", ("fp16",)),
        ((7, 5), "NVIDIA GeForce RTX 2080 Ti", "Turing", ("fp16",)),
        ((7, 5), "Quadro RTX 4000", "Turing", ("fp16",)),
        ((8, 0), "NVIDIA A100-SXM4-80GB", "Ampere", AMPERE),
        ((8, 6), "NVIDIA GeForce RTX 3090", "Ampere", AMPERE),
        ((8, 6), "NVIDIA RTX A2000", "Ampere", AMPERE),
        ((8, 7), "Orin", "Ampere", AMPERE),
        ((8, 9), "NVIDIA L4", "Ada", (*AMPERE, "fp8")),
        ((9, 0), "NVIDIA H100 80GB HBM3", "Hopper", (*AMPERE, "fp8")),
        ((10, 0), "NVIDIA B200", "Blackwell", (*AMPERE, "fp8", "fp4")),
        ((10, 3), "NVIDIA B300", "Blackwell", (*AMPERE, "fp8", "fp4")),
        ((11, 0), "NVIDIA Thor", "Blackwell", (*AMPERE, "fp8", "fp4")),
        ((12, 0), "NVIDIA GeForce RTX 5090", "Blackwell", (*AMPERE, "fp8", "fp4")),
        ((12, 1), "NVIDIA GB10", "Blackwell", (*AMPERE, "fp8", "fp4")),
        ((14, 0), "", "newer than Blackwell", (*AMPERE, "fp8", "fp4")),
    ],
)
def test_tensor_cores_by_generation(
    capability: tuple[int, int], name: str, generation: str, formats: tuple[str, ...]
) -> None:
    cores = tensor_cores(*capability, name)
    assert cores is not None
    assert cores.generation == generation
    assert cores.formats == formats


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((3, 7), "Tesla K80"),
        ((6, 0), "Tesla P100-PCIE-16GB"),
        ((6, 1), "NVIDIA GeForce GTX 1080 Ti"),
        ((7, 5), "GeForce GTX 1650"),
        ((7, 5), "NVIDIA GeForce GTX 1660 SUPER"),
        ((7, 5), "NVIDIA GeForce MX450"),
        ((7, 5), "NVIDIA T400 4GB"),
        ((7, 5), "NVIDIA T1000 8GB"),
        ((7, 5), "Quadro T2000"),
    ],
)
def test_gpus_without_tensor_cores(capability: tuple[int, int], name: str) -> None:
    assert tensor_cores(*capability, name) is None


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (["sm_75", "sm_80", "sm_86", "sm_90"], (7, 5), True),
        (["sm_75", "sm_80", "sm_86", "sm_90"], (8, 9), True),  # within the major version
        (["sm_75", "sm_80", "sm_86", "sm_90"], (7, 0), False),  # an older minor version
        (["sm_75", "sm_80", "sm_86", "sm_90"], (6, 1), False),
        (["sm_75", "sm_80", "sm_86", "sm_90"], (12, 0), False),  # the next major version
        (["sm_75", "sm_90", "compute_90"], (12, 0), True),  # PTX is translated
        (["compute_90"], (8, 9), False),
        (["sm_100", "sm_120"], (10, 3), True),
        (["sm_100", "sm_120"], (12, 1), True),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),  # that very one
        (["sm_100f"], (10, 3), True),  # the family
        (["compute_90a"], (12, 0), False),
        (["gfx90a"], (9, 0), False),
        ([], (9, 0), False),
    ],
)
def test_kernels_by_architecture(built_for: list[str], capability: tuple[int, int], runs: bool) -> None:
    assert has_kernels(built_for, capability) is runs


def test_kernels_agree_with_torch() -> None:
    rules = getattr(torch.cuda, "DEVICE_REQUIREMENT", None)
    if rules is None:
        pytest.skip("this torch keeps no table of its own")
    jetson = {53, 62, 72, 87, 101, 110}
    known = [code for code in rules if code not in jetson]
    for code in known:
        for capability in known:
            expected = capability in rules[code]
            assert has_kernels([f"sm_{code}"], divmod(capability, 10)) is expected, (code, capability)


@pytest.mark.parametrize(
    ("driver", "cuda", "fits"),
    [
        ("450.80.02", "11.8", True),
        ("440.33", "11.0", False),
        ("525.60.13", "12.1", True),
        ("515.65.01", "12.1", False),
        ("535.104.05", "12.8", True),
        ("580.65.06", "12.8", True),
        ("580.65.06", "13.0", True),
        ("575.57.08", "13.0", False),
        ("535.104.05", "13.0", False),
        ("1000.1", "13.2", True),
        ("580.65.06", "15.0", True),  # nothing is known of it, so nothing is claimed
    ],
)
def test_the_driver_and_cuda(driver: str, cuda: str, fits: bool) -> None:
    """As in NVIDIA's table of minor version compatibility."""
    assert driver_fits(driver, cuda) is fits


@pytest.mark.parametrize(
    ("output", "errors", "driver"),
    [
        ("580.65.06\n", "", NvidiaDriver(version="580.65.06")),
        ("551.86\n551.86\n", "", NvidiaDriver(version="551.86")),
        ("No devices were found\n", "", NvidiaDriver(fault="No devices were found")),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.65\n",
            "",
            NvidiaDriver(fault="Failed to initialize NVML: Driver/library version mismatch"),
        ),
        ("", "cannot open shared object\n", NvidiaDriver(fault="cannot open shared object")),
        ("[N/A]\n", "", NvidiaDriver(fault="[N/A]")),
        ("", "", NvidiaDriver(fault="no answer")),
    ],
)
def test_the_answer_of_nvidia_smi(output: str, errors: str, driver: NvidiaDriver) -> None:
    assert read_driver(output, errors) == driver


def test_without_nvidia_smi_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "which", lambda _: None)
    monkeypatch.setattr(room.subprocess, "run", lambda *_, **__: pytest.fail("a program was started"))
    assert nvidia_driver() is None


def test_nvidia_smi_is_asked_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "/usr/bin/nvidia-smi"
        assert not settings.get("shell")
        return subprocess.CompletedProcess(command, 0, "580.65.06\n", "")

    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(room.subprocess, "run", run)
    assert nvidia_driver() == NvidiaDriver(version="580.65.06")


@pytest.mark.parametrize(
    ("error", "fault"),
    [(subprocess.TimeoutExpired("nvidia-smi", 20), "no answer"), (PermissionError(13, "Permission denied"), "denied")],
)
def test_an_nvidia_smi_that_hangs_or_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, fault: str) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(room.subprocess, "run", run)
    driver = nvidia_driver()
    assert driver is not None
    assert driver.version == ""
    assert fault in driver.fault


def test_cudnn_tells_both_versions() -> None:
    versions = cudnn_versions()
    if torch.version.cuda is None:
        assert versions is None
    else:
        assert versions is not None
        assert all(len(version) == 3 for version in versions)
