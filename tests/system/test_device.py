"""Which device, and what its hardware computes in."""

from types import SimpleNamespace

import pytest
import torch

from halftone.base.errors import RecipeError, ResourceError
from halftone.system import device as room
from halftone.system.device import (
    choose_device,
    cpu_formats,
    cpu_instructions,
    cuda_formats,
    device_facts,
    devices,
    emulated_formats,
    rocm_formats,
)


def counts(monkeypatch: pytest.MonkeyPatch, **devices: int) -> None:
    """Pretend to stand on a machine with these devices."""
    monkeypatch.setattr(room, "_count", lambda kind: devices.get(kind, 1 if kind == "cpu" else 0))


def test_F1_auto_takes_the_best_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    counts(monkeypatch)
    assert choose_device("auto") == torch.device("cpu")
    counts(monkeypatch, mps=1)
    assert choose_device("auto") == torch.device("mps")
    counts(monkeypatch, mps=1, xpu=1, cuda=2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)


def test_F2_a_device_that_is_not_there_is_a_lack_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    counts(monkeypatch, cuda=0)
    with pytest.raises(ResourceError, match="device = 'cuda', but there is no cuda device here") as caught:
        choose_device("cuda")
    assert caught.value.hint == "use --device auto"
    counts(monkeypatch, cuda=1)
    with pytest.raises(ResourceError, match="'cuda:1', but there is only cuda:0"):
        choose_device("cuda:1")
    counts(monkeypatch, cuda=4)
    with pytest.raises(ResourceError, match="'cuda:7', but there are only cuda:0 to cuda:3"):
        choose_device("cuda:7")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gpu", "did you mean 'cuda'?"),
        ("cdua", "did you mean 'cuda'?"),
        ("CPU", "did you mean 'cpu'?"),
        ("cuda:-1", "did you mean 'cuda'?"),
        ("cuda:one", "did you mean 'cuda'?"),
        ("", ""),
        ("meta", ""),
    ],
)
def test_B2_a_name_that_is_no_device_is_refused(name: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        choose_device(name)
    assert str(caught.value).startswith(f"device = '{name}': ")
    assert "cuda, xpu, mps, cpu" in str(caught.value)
    assert caught.value.hint == hint


def test_the_cpu_is_described() -> None:
    facts = device_facts(torch.device("cpu"))
    assert facts.kind == "cpu"
    assert facts.name
    assert "fp32" in facts.native
    assert facts.native <= {"fp32", "bf16", "fp16"}
    assert facts.capability is None


@pytest.mark.parametrize(
    ("capability", "formats"),
    [
        ((6, 1), {"fp32"}),
        ((7, 0), {"fp32", "fp16"}),
        ((7, 5), {"fp32", "fp16"}),
        ((8, 0), {"fp32", "fp16", "bf16", "tf32"}),
        ((8, 6), {"fp32", "fp16", "bf16", "tf32"}),
        ((8, 9), {"fp32", "fp16", "bf16", "tf32", "fp8"}),
        ((9, 0), {"fp32", "fp16", "bf16", "tf32", "fp8"}),
        ((12, 0), {"fp32", "fp16", "bf16", "tf32", "fp8"}),
    ],
)
def test_F3_formats_by_compute_capability(capability: tuple[int, int], formats: set[str]) -> None:
    assert cuda_formats(*capability) == formats


def test_F3_turing_without_tensor_cores_is_told_by_name() -> None:
    assert cuda_formats(7, 5, "Tesla T4") == {"fp32", "fp16"}
    assert cuda_formats(7, 5, "NVIDIA GeForce GTX 1660 Ti") == {"fp32"}


@pytest.mark.parametrize(
    ("architecture", "formats"),
    [
        ("gfx906:sramecc+:xnack-", {"fp32"}),
        ("gfx90a:sramecc+:xnack-", {"fp32", "bf16", "fp16"}),
        ("gfx942", {"fp32", "bf16", "fp16"}),
        ("gfx1030", {"fp32"}),
        ("gfx1100", {"fp32", "bf16", "fp16"}),
    ],
)
def test_formats_of_amd(architecture: str, formats: set[str]) -> None:
    assert rocm_formats(architecture) == formats


def test_amd_has_no_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROCm numbers its architectures in the same place: gfx90a is (9, 0) and yet no Hopper."""
    monkeypatch.setattr(torch.version, "hip", "6.4", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "AMD Instinct MI250X")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(gcnArchName="gfx90a"))
    facts = device_facts(torch.device("cuda"))
    assert facts.native == {"fp32", "bf16", "fp16"}
    assert facts.capability is None


def test_what_is_not_native_is_emulated() -> None:
    assert emulated_formats({"fp32"}) == ("bf16", "fp16")
    assert emulated_formats({"fp32", "bf16"}) == ("fp16",)
    assert emulated_formats({"fp32", "tf32", "bf16", "fp16", "fp8"}) == ()


def test_all_devices_are_found_the_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    counts(monkeypatch)
    assert list(devices()) == [torch.device("cpu")]
    counts(monkeypatch, mps=1, cuda=2)
    assert [str(device) for device in devices()] == ["cuda:0", "cuda:1", "mps", "cpu"]


@pytest.mark.parametrize(
    ("capabilities", "formats"),
    [
        ({}, {"fp32"}),
        ({"avx2": True, "avx512_bf16": False}, {"fp32"}),
        ({"avx512_bf16": True}, {"fp32", "bf16"}),
        ({"amx_bf16": True, "amx_fp16": True}, {"fp32", "bf16", "fp16"}),
        ({"avx512_fp16": True}, {"fp32", "fp16"}),
    ],
)
def test_F5_formats_by_instruction_set(capabilities: dict[str, object], formats: set[str]) -> None:
    assert cpu_formats(capabilities) == formats


@pytest.mark.parametrize(
    ("capabilities", "instructions"),
    [
        ({}, {}),
        ({"architecture": "x86_64", "avx2": True}, {}),
        (
            {
                "avx512_bf16": True,
                "avx512_fp16": True,
                "amx_tile": True,
                "amx_bf16": True,
                "amx_fp16": False,
                "amx_int8": True,
            },
            {
                "AVX-512 BF16": True,
                "AVX-512 FP16": True,
                "AMX BF16": True,
                "AMX FP16": False,
                "AMX INT8": True,
            },
        ),
        (
            {"neon": True, "bf16": True, "fp16_arith": True, "i8mm": False},
            {"NEON BF16": True, "NEON FP16": True, "NEON I8MM": False},
        ),
    ],
)
def test_F5_instructions_by_their_makers_names(capabilities: dict[str, object], instructions: dict[str, bool]) -> None:
    assert cpu_instructions(capabilities) == instructions


def test_F5_the_names_are_those_of_torch() -> None:
    known = room.cpu_capabilities()
    if known.get("architecture") == "x86_64":
        assert {"avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "amx_int8", "cpu_name"} <= known.keys()


def test_an_older_torch_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    room.cpu_capabilities.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    try:
        assert room.cpu_capabilities() == {}
        assert device_facts(torch.device("cpu")).native == {"fp32"}
    finally:
        room.cpu_capabilities.cache_clear()
