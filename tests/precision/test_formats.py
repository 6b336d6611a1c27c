"""Number formats, with torch's own types as the oracle."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from halftone.precision.config import MODES, Mode
from halftone.precision.formats import FORMATS, autocast, autocast_dtype, name_of, together

DTYPES = {
    "fp32": (torch.float32, torch.int32),
    "bf16": (torch.bfloat16, torch.int16),
    "fp16": (torch.float16, torch.int16),
    "fp8-e4m3": (torch.float8_e4m3fn, torch.uint8),
    "fp8-e5m2": (torch.float8_e5m2, torch.uint8),
}


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2"])
def test_formats_of_eight_bits_are_those_of_torch(name: str) -> None:
    held, facts = FORMATS[name], torch.finfo(DTYPES[name][0])
    assert (held.largest, held.smallest_normal) == (facts.max, facts.smallest_normal)
    assert 1 + held.exponent_bits + held.mantissa_bits == facts.bits == 8
    assert 2.0**-held.mantissa_bits == facts.eps
    assert name == f"fp8-e{held.exponent_bits}m{held.mantissa_bits}"


@pytest.mark.parametrize("name", DTYPES)
def test_the_smallest_number_is_the_one_with_the_last_bit_alone(name: str) -> None:
    dtype, bits = DTYPES[name]
    held = FORMATS[name]
    last_bit = torch.ones(1, dtype=bits).view(dtype)
    assert held.smallest == float(last_bit.double())
    halves = torch.tensor([held.smallest * 0.49, held.smallest * 0.51], dtype=torch.float64)
    assert halves.to(dtype).double().tolist() == [0.0, held.smallest]


def test_the_smallest_numbers_are_those_of_numpy() -> None:
    assert FORMATS["fp16"].smallest == float(np.finfo(np.float16).smallest_subnormal)
    with np.errstate(all="ignore"):
        assert FORMATS["fp32"].smallest == 2.0**-149 == float(np.nextafter(np.float32(0), np.float32(1)))


def test_tf32_has_the_range_of_fp32_and_the_bits_of_fp16() -> None:
    tf32 = FORMATS["tf32"]
    assert (tf32.exponent_bits, tf32.mantissa_bits) == (FORMATS["fp32"].exponent_bits, FORMATS["fp16"].mantissa_bits)
    assert (tf32.smallest_normal, tf32.smallest) == (2.0**-126, 2.0**-136)


@pytest.mark.parametrize("name", DTYPES)
def test_types_have_short_names(name: str) -> None:
    assert name_of(DTYPES[name][0]) == name
    assert name_of(torch.float64) == "fp64"
    assert name_of(torch.int64) == "int64"


@pytest.mark.parametrize("mode", MODES)
def test_autocast_lowers_to_the_half_beneath_a_mode(mode: Mode) -> None:
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}.get(mode.removesuffix("-true"))
    assert autocast_dtype(mode) == wanted
    ones = torch.ones(2, 2)
    with autocast("cpu", mode):
        assert (ones @ ones).dtype == (wanted or torch.float32)


def test_contexts_are_entered_in_order_and_left_in_reverse_also_on_an_error() -> None:
    told: list[str] = []

    @contextmanager
    def telling(name: str) -> Iterator[None]:
        told.append(f"+{name}")
        try:
            yield
        finally:
            told.append(f"-{name}")

    with pytest.raises(KeyError), together(telling("a"), telling("b"), telling("c")):
        told.append("inside")
        raise KeyError
    assert told == ["+a", "+b", "+c", "inside", "-c", "-b", "-a"]
    with together():
        told.append("alone")
    assert told[-1] == "alone"
