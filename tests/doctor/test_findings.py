"""What doctor says of machines that are not this one."""

import pytest
import torch

from halftone.doctor import findings as room
from halftone.doctor.devices import Seen
from halftone.doctor.findings import findings, fp8_finding, threads_finding
from halftone.doctor.record import Finding
from halftone.system.cuda import NvidiaDriver
from halftone.system.device import DeviceFacts, cuda_formats

CPU = DeviceFacts("cpu", "plain", frozenset({"fp32"}))
L4 = DeviceFacts("cuda", "NVIDIA L4", cuda_formats(8, 9), (8, 9))


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


@pytest.mark.parametrize(
    ("total", "affinity", "granted", "used", "asked", "found", "advice"),
    [
        (8, 8, 8, 8, "", "cores granted: 8; threads of torch: 8", ""),
        (8, 8, 8, 4, "", "cores granted: 8; threads of torch: 4", ""),  # two threads of a core count as one
        (64, 4, 4, 4, "", "cores granted: 4 of 64, by affinity; threads of torch: 4", ""),
        (64, 64, 2, 32, "", "2 of 64, by the container's quota; threads of torch: 32", "set OMP_NUM_THREADS=2"),
        (64, 8, 2, 8, "", "2 of 64, by affinity and the container's quota", "set OMP_NUM_THREADS=2"),
        (8, 8, 8, 16, "16", "threads of torch: 16; OMP_NUM_THREADS=16", "set OMP_NUM_THREADS=8"),
        (8, 8, 8, 1, "1", "threads of torch: 1; OMP_NUM_THREADS=1", "training uses 8 all the same"),
        (8, 8, 8, 8, "8", "threads of torch: 8; OMP_NUM_THREADS=8", ""),
    ],
)
def test_F11_threads_fit_what_is_granted(
    total: int, affinity: int, granted: int, used: int, asked: str, found: str, advice: str
) -> None:
    finding = threads_finding(total=total, affinity=affinity, granted=granted, used=used, asked=asked)
    assert found in finding.found
    assert advice in finding.advice
    assert finding.state == ("note" if advice else "good")
    assert bool(advice) is bool(finding.advice)


def test_F6_an_absent_extra_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = room.version

    def version(package: str) -> str:
        if package == "datasets":
            raise room.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(room, "version", version)
    assert by_name()["datasets"].advice == 'pip install "halftone[hub]"'


def test_F6_fp8_needs_its_package_only_where_it_can_run() -> None:
    missing = fp8_finding(None, wanted=True)
    assert missing.state == "note"
    assert missing.advice == 'pip install "halftone[fp8]"'
    idle = fp8_finding(None, wanted=False)
    assert (idle.state, idle.advice) == ("good", "")
    assert "precision fp8" in idle.found
    there = fp8_finding("0.18.0", wanted=True)
    assert (there.state, there.advice) == ("good", "")
    assert there.found.startswith("0.18.0")


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "look", lambda: Seen({"cpu": CPU}, {}))
    monkeypatch.setattr(room, "nvidia_driver", lambda: None)
    found = by_name()
    assert found["GPU"].state == "note"
    assert not {"driver", "cuDNN", "tensor cores", "kernels"} & found.keys()


def test_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "look", lambda: Seen({"cuda:0": L4, "cpu": CPU}, {}))
    monkeypatch.setattr(room, "nvidia_driver", lambda: NvidiaDriver(version="580.65.06"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_89"])
    found = by_name()
    assert "GPU" not in found
    assert {"device cuda:0", "device cpu", "tensor cores", "kernels", "driver", "torchao"} <= found.keys()
    assert found["torchao"].found.endswith("on GPUs from Ada (8.9) on")


def test_an_old_driver_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "look", lambda: Seen({"cpu": CPU}, {}, "CUDA initialization: too old"))
    monkeypatch.setattr(room, "nvidia_driver", lambda: NvidiaDriver(version="535.104.05"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = by_name()
    assert found["driver"].state == "bad"
    assert "torch is built for CUDA 13.0, but the driver is 535.104.05" in found["driver"].found
    assert "update the driver to 580" in found["driver"].advice
