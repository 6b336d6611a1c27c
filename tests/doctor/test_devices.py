"""Devices and their formats, as doctor says them."""

import warnings
from collections.abc import Iterator

import pytest
import torch

from halftone.doctor import devices as room
from halftone.doctor.devices import (
    Seen,
    device_finding,
    device_findings,
    instructions_finding,
    look,
    no_gpu_finding,
)
from halftone.system.cuda import NvidiaDriver
from halftone.system.device import DeviceFacts, cuda_formats

DRIVER = NvidiaDriver(version="580.65.06")


def cpu(*formats: str) -> DeviceFacts:
    return DeviceFacts("cpu", "a CPU", frozenset(formats))


def gpu(name: str, major: int, minor: int) -> DeviceFacts:
    return DeviceFacts("cuda", name, cuda_formats(major, minor, name), (major, minor))


@pytest.mark.parametrize(
    ("facts", "state", "found", "advice"),
    [
        (cpu("fp32", "bf16"), "good", "a CPU; native: fp32, bf16; emulated: fp16", "bf16 trains faster"),
        (cpu("fp32", "bf16", "fp16"), "good", "a CPU; native: fp32, bf16, fp16", "bf16 trains faster"),
        (cpu("fp32"), "note", "a CPU; native: fp32; emulated: bf16, fp16", "train in fp32"),
        (cpu("fp32", "fp16"), "note", "a CPU; native: fp32, fp16; emulated: bf16", "train in fp32"),
        (gpu("P100", 6, 0), "note", "P100; native: fp32; emulated: bf16, fp16", "train in fp32"),
        (gpu("T4", 7, 5), "good", "T4; native: fp32, fp16; emulated: bf16", "use fp16"),
        (gpu("GTX 1660", 7, 5), "note", "GTX 1660; native: fp32; emulated: bf16, fp16", "train in fp32"),
        (gpu("A100", 8, 0), "good", "A100; native: fp32, tf32, bf16, fp16", ""),
        (gpu("L4", 8, 9), "good", "L4; native: fp32, tf32, bf16, fp16, fp8", ""),
        (DeviceFacts("mps", "M3", frozenset({"fp32", "fp16"})), "good", "M3; native: fp32, fp16; emulated: bf16", ""),
    ],
)
def test_F3_F5_formats_of_a_device(facts: DeviceFacts, state: str, found: str, advice: str) -> None:
    finding = device_finding("it", facts)
    assert (finding.what, finding.state, finding.found) == ("device it", state, found)
    assert advice in finding.advice
    assert bool(advice) is bool(finding.advice)


def test_instructions_that_are_there_and_not() -> None:
    finding = instructions_finding({"AVX-512 BF16": True, "AMX BF16": False, "AMX INT8": False})
    assert finding.found == "present: AVX-512 BF16; absent: AMX BF16, AMX INT8"
    assert instructions_finding({"AMX BF16": True}).found == "present: AMX BF16; absent: none"


def test_an_unknown_processor_has_no_instructions_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "cpu_capabilities", dict)
    seen = Seen({"cpu": cpu("fp32")}, {})
    assert [finding.what for finding in device_findings(seen)] == ["device cpu"]
    monkeypatch.setattr(room, "cpu_capabilities", lambda: {"avx512_bf16": True})
    assert [finding.what for finding in device_findings(seen)] == ["device cpu", "instructions"]


def test_a_device_that_does_not_answer_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(device: torch.device) -> DeviceFacts:
        if device.type == "cuda":
            raise RuntimeError("CUDA error: all devices are busy\nand more")
        return cpu("fp32")

    monkeypatch.setattr(room, "devices", lambda: iter([torch.device("cuda", 0), torch.device("cpu")]))
    monkeypatch.setattr(room, "device_facts", facts)
    seen = look()
    assert list(seen.facts) == ["cpu"]
    bad = [finding for finding in device_findings(seen) if finding.state == "bad"]
    assert [finding.what for finding in bad] == ["device cuda:0"]
    assert "all devices are busy and more" in bad[0].found


def test_what_torch_says_of_cuda_is_kept_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> Iterator[torch.device]:
        warnings.warn("something else", stacklevel=1)
        warnings.warn("CUDA initialization: too old (Triggered internally at x.cpp:1.)", stacklevel=1)
        yield torch.device("cpu")

    monkeypatch.setattr(room, "devices", devices)
    assert look().said == "CUDA initialization: too old"


@pytest.mark.parametrize(
    ("cuda", "driver", "visible", "said", "found", "advice"),
    [
        (None, None, None, "", "none (torch is built without CUDA)", ""),
        ("13.0", None, None, "", "none (torch is built for CUDA 13.0)", "install its driver"),
        ("13.0", None, "", "", "none (torch is built for CUDA 13.0)", "install its driver"),
        ("13.0", NvidiaDriver(fault="broken"), None, "", "none (torch is built for CUDA 13.0)", "install its driver"),
        (
            None,
            DRIVER,
            None,
            "",
            "built without CUDA, though NVIDIA's driver 580.65.06",
            "torch that is built for CUDA",
        ),
        ("13.0", DRIVER, "", "", "CUDA_VISIBLE_DEVICES='' hides them", "unset CUDA_VISIBLE_DEVICES"),
        ("13.0", DRIVER, "-1", "", "CUDA_VISIBLE_DEVICES='-1' hides them", "unset CUDA_VISIBLE_DEVICES"),
        ("13.0", DRIVER, "0", "Error 802", "driver 580.65.06 is here; torch says: Error 802", "restart"),
        ("13.0", DRIVER, None, "", "none, though NVIDIA's driver 580.65.06 is here", "container"),
        ("13.0", NvidiaDriver(version="535.1"), None, "too old", "the driver is too old", ""),
    ],
)
def test_why_there_may_be_no_gpu(
    cuda: str | None, driver: NvidiaDriver | None, visible: str | None, said: str, found: str, advice: str
) -> None:
    finding = no_gpu_finding(cuda, driver, visible=visible, said=said)
    assert finding.state == "note"
    assert found in finding.found
    assert advice in finding.advice
    assert bool(advice) is bool(finding.advice)
