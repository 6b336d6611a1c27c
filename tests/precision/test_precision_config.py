"""What can be asked of precision, and the formats behind it."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from halftone.base.errors import RecipeError
from halftone.precision.config import ALIASES, MODES, PrecisionConfig
from halftone.precision.formats import FORMATS, autocast, autocast_dtype, float32_arithmetic

MATMUL, CONVOLUTION = torch.backends.cuda.matmul, torch.backends.cudnn.conv


@pytest.mark.parametrize("name", [*MODES, "auto"])
def test_modes_are_themselves(name: str) -> None:
    assert PrecisionConfig(mode=name).mode == name


@pytest.mark.parametrize(("alias", "mode"), ALIASES.items())
def test_aliases(alias: str, mode: str) -> None:
    assert PrecisionConfig(mode=alias).mode == mode
    assert PrecisionConfig(mode=alias.upper()).mode == mode


@pytest.mark.parametrize(("number", "mode"), [(16, "fp16"), (32, "fp32")])
def test_bare_numbers_are_understood(number: int, mode: str) -> None:
    assert PrecisionConfig(mode=number).mode == mode


@pytest.mark.parametrize("mode", ["int8", "fp8", "", "bf17", 8, None, True])
def test_unknown_modes_are_refused(mode: object) -> None:
    with pytest.raises(ValidationError):
        PrecisionConfig(mode=mode)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 0},
        {"scale": float("inf")},
        {"scale": float("nan")},
        {"scale": 2.0**25},
        {"scale": 1.0, "scale_floor": 2.0},
        {"scale_cap": 1024},
        {"scale_floor": 1e-45},
        {"scale_cap": 2.0**40},
        {"scale_growth": 1.0},
        {"scale_backoff": 1.0},
        {"scale_interval": 0},
        {"max_skipped": 0},
    ],
)
def test_C5_unusable_constants_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError):
        PrecisionConfig.parse(settings)


@pytest.mark.parametrize(("mode", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_formats_are_those_of_torch(mode: str, dtype: torch.dtype) -> None:
    held, facts = FORMATS[mode], torch.finfo(dtype)
    assert autocast_dtype(mode) == dtype
    assert (held.largest, held.smallest_normal) == (facts.max, facts.tiny)
    assert 1 + held.exponent_bits + held.mantissa_bits == facts.bits
    assert 2.0**-held.mantissa_bits == facts.eps


def test_fp32_is_that_of_numpy() -> None:
    facts = np.finfo(np.float32)
    held = FORMATS["fp32"]
    assert (held.exponent_bits, held.mantissa_bits) == (facts.iexp, facts.nmant)
    assert (held.largest, held.smallest_normal) == (float(facts.max), float(facts.tiny))


@pytest.mark.parametrize(
    ("mode", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("tf32", torch.float32)]
)
def test_autocast_lowers_matrix_products(mode: str, dtype: torch.dtype) -> None:
    ones = torch.ones(2, 2)
    with autocast("cpu", mode):
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
@pytest.mark.parametrize(("mode", "inside"), [("fp32", "ieee"), ("bf16", "ieee"), ("fp16", "ieee"), ("tf32", "tf32")])
def test_float32_arithmetic_sets_and_restores_the_flags(before: str, mode: str, inside: str) -> None:
    originally = MATMUL.fp32_precision, CONVOLUTION.fp32_precision
    try:
        MATMUL.fp32_precision = CONVOLUTION.fp32_precision = before
        with float32_arithmetic(mode):
            assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == (inside, inside)
        assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == (before, before)
        with pytest.raises(KeyError), float32_arithmetic(mode):
            raise KeyError
        assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == (before, before)
    finally:
        MATMUL.fp32_precision, CONVOLUTION.fp32_precision = originally


@pytest.mark.parametrize(("mode", "inside"), [("fp32", "ieee"), ("tf32", "tf32")])
def test_on_cuda_a_forward_pass_means_what_its_mode_says(mode: str, inside: str) -> None:
    before = MATMUL.fp32_precision, CONVOLUTION.fp32_precision
    context = autocast("cuda", mode)
    assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == before  # nothing happens before it is entered
    with context:
        assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == (inside, inside)
    assert (MATMUL.fp32_precision, CONVOLUTION.fp32_precision) == before
