"""NVIDIA's GPUs, as doctor says them."""

import pytest
import torch

from halftone.doctor import cuda as room
from halftone.doctor.cuda import (
    cuda_findings,
    cudnn_finding,
    driver_finding,
    kernels_finding,
    tensor_cores_finding,
)
from halftone.system.cuda import NvidiaDriver
from halftone.system.device import DeviceFacts, cuda_formats

H100 = DeviceFacts("cuda", "NVIDIA H100", cuda_formats(9, 0), (9, 0))
V100 = DeviceFacts("cuda", "Tesla V100", cuda_formats(7, 0), (7, 0))


def test_tensor_cores() -> None:
    found = tensor_cores_finding("NVIDIA H100", (9, 0))
    assert found.state == "good"
    assert found.found == "NVIDIA H100 (Hopper, capability 9.0): tf32, bf16, fp16, fp8"
    none = tensor_cores_finding("NVIDIA GeForce GTX 1650", (7, 5))
    assert none.state == "note"
    assert "has none" in none.found


def test_a_gpu_without_kernels_is_bad() -> None:
    assert kernels_finding("NVIDIA H100", (9, 0), ["sm_80", "sm_90"]).state == "good"
    old = kernels_finding("GTX 1080", (6, 1), ["sm_75", "sm_80"])
    assert old.state == "bad"
    assert "capability 6.1" in old.found
    assert "sm_75, sm_80" in old.found
    assert "pytorch.org" in old.advice


@pytest.mark.parametrize(
    ("driver", "cuda", "state", "advice"),
    [
        ("580.65.06", "13.0", "good", ""),
        ("535.104.05", "12.8", "good", ""),
        (
            "535.104.05",
            "13.0",
            "bad",
            "update the driver to 580 or newer, or install a torch that is built for CUDA 12",
        ),
        ("515.65.01", "12.6", "bad", "update the driver to 525 or newer, or install a torch that is built for CUDA 11"),
        ("418.39", "12.6", "bad", "update the driver to 525 or newer"),
        ("600.1", "14.0", "good", ""),
    ],
)
def test_the_driver_and_cuda(driver: str, cuda: str, state: str, advice: str) -> None:
    found = driver_finding(driver, cuda)
    assert found.state == state
    assert driver in found.found
    assert f"torch is built for CUDA {cuda}" in found.found
    assert found.advice.startswith(advice)
    assert bool(advice) is bool(found.advice)


def test_an_old_driver_without_an_alternative_names_none() -> None:
    assert "install" not in driver_finding("418.39", "12.6").advice


def test_an_old_driver_that_works_all_the_same_is_a_note() -> None:
    found = driver_finding("535.104.05", "13.0", reached=True)
    assert found.state == "note"
    assert "forward compatibility" in found.found


@pytest.mark.parametrize(
    ("compiled", "loaded", "oldest", "state", "advice"),
    [
        ((9, 10, 2), (9, 10, 2), (7, 0), "good", ""),
        ((9, 10, 2), (9, 24, 0), (8, 0), "good", ""),  # minor versions are compatible upwards
        ((9, 10, 2), (9, 1, 0), (8, 0), "bad", "LD_LIBRARY_PATH"),
        ((9, 10, 2), (8, 9, 7), (8, 0), "bad", "LD_LIBRARY_PATH"),
        ((9, 10, 2), (10, 0, 0), (8, 0), "bad", "LD_LIBRARY_PATH"),
        ((9, 24, 0), (9, 24, 0), (7, 0), "bad", "older build of torch"),
        ((9, 24, 0), (9, 24, 0), (7, 5), "good", ""),
    ],
)
def test_cudnn_compiled_and_loaded(
    compiled: tuple[int, int, int], loaded: tuple[int, int, int], oldest: tuple[int, int], state: str, advice: str
) -> None:
    """By the rule of `torch.backends.cudnn.version()`, which raises an error instead."""
    found = cudnn_finding(compiled, loaded, oldest=oldest)
    assert found.state == state
    assert advice in found.advice
    assert bool(advice) is bool(found.advice)
    assert ".".join(map(str, loaded)) in found.found


def test_a_gpu_that_is_there_is_looked_at_from_all_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(room, "cudnn_versions", lambda: ((9, 24, 0), (9, 24, 0)))
    found = list(cuda_findings([H100, H100], NvidiaDriver(version="580.65.06")))
    assert [finding.what for finding in found] == ["tensor cores", "kernels", "driver", "cuDNN"]
    assert {finding.state for finding in found} == {"good"}
    found = list(cuda_findings([H100, V100], NvidiaDriver(version="580.65.06")))
    assert [finding.what for finding in found if finding.state == "bad"] == ["kernels", "cuDNN"]


def test_an_old_driver_is_told_though_torch_reaches_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (found,) = cuda_findings([], NvidiaDriver(version="535.104.05"))
    assert (found.what, found.state) == ("driver", "bad")


def test_without_nvidia_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert list(cuda_findings([], None)) == []
    amd = DeviceFacts("cuda", "AMD Instinct MI250X", frozenset({"fp32", "bf16", "fp16"}))
    assert list(cuda_findings([amd], None)) == []
    monkeypatch.setattr(torch.version, "cuda", None)
    assert list(cuda_findings([], NvidiaDriver(version="535.104.05"))) == []


def test_a_driver_that_does_not_answer_is_a_note() -> None:
    (found,) = cuda_findings([], NvidiaDriver(fault="Failed to initialize NVML: Driver/library version mismatch"))
    assert (found.what, found.state) == ("driver", "note")
    assert "version mismatch" in found.found
    assert "restart" in found.advice
