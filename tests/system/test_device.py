"""Which device, and what its hardware computes in."""

import pytest
import torch

from halftone.base.errors import RecipeError, ResourceError
from halftone.system import device as room
from halftone.system.device import choose_device, cpu_formats, cuda_formats, device_facts


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
        ((9, 0), {"fp32", "fp16", "bf16", "tf32"}),
        ((12, 0), {"fp32", "fp16", "bf16", "tf32"}),
    ],
)
def test_F3_formats_by_compute_capability(capability: tuple[int, int], formats: set[str]) -> None:
    assert cuda_formats(*capability) == formats


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


def test_F5_the_names_are_those_of_torch() -> None:
    known = room.cpu_capabilities()
    if known.get("architecture") == "x86_64":
        assert {"avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "cpu_name"} <= known.keys()


def test_an_older_torch_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    room.cpu_capabilities.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    try:
        assert room.cpu_capabilities() == {}
        assert device_facts(torch.device("cpu")).native == {"fp32"}
    finally:
        room.cpu_capabilities.cache_clear()
