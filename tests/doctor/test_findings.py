"""What doctor says of machines that are not this one."""

import pytest
import torch

from halftone.doctor import findings as room
from halftone.doctor.findings import Finding, findings
from halftone.system.device import DeviceFacts


def by_name() -> dict[str, Finding]:
    return {finding.what: finding for finding in findings()}


def test_F7_an_old_torch_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_name()["torch"].state == "good"
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    found = by_name()["torch"]
    assert found.state == "bad"
    assert "unsafely" in found.advice


def test_more_threads_than_cores_are_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "usable_cores", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = by_name()["threads"]
    assert found.state == "note"
    assert "OMP_NUM_THREADS=1" in found.advice


def test_F5_a_processor_without_bf16_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DeviceFacts("cpu", "plain", frozenset({"fp32"}))
    monkeypatch.setattr(room, "device_facts", lambda _: facts)
    found = by_name()["device cpu"]
    assert found.state == "note"
    assert "train in fp32" in found.advice


def test_F3_a_gpu_without_bf16_uses_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "KINDS", ("cuda",))
    monkeypatch.setattr(room, "choose_device", torch.device)
    monkeypatch.setattr(room, "device_facts", lambda _: DeviceFacts("cuda", "T4", frozenset({"fp32", "fp16"}), (7, 5)))
    assert "use fp16" in by_name()["device cuda"].advice


def test_F6_an_absent_extra_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = room.version

    def version(package: str) -> str:
        if package == "datasets":
            raise room.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(room, "version", version)
    assert by_name()["datasets"].advice == 'pip install "halftone[hub]"'
