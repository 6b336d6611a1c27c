"""What can be asked of precision, and the formats behind it."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from halftone.base.errors import RecipeError
from halftone.precision.config import ALIASES, MODES, PrecisionConfig, evaluation_config, lowered, uses_scaling
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


@pytest.mark.parametrize("mode", ["int8", "fp4", "", "bf17", 8, None, True])
def test_unknown_modes_are_refused(mode: object) -> None:
    with pytest.raises(ValidationError):
        PrecisionConfig(mode=mode)


@pytest.mark.parametrize("alias", ["16-true", "float8", "32-true"])
def test_names_of_lightning_and_others_are_understood_for_evaluation_too(alias: str) -> None:
    assert PrecisionConfig(evaluation=alias).evaluation == ALIASES[alias]


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("depthwise=fp32,head=fp16", {"depthwise": "fp32", "head": "fp16"}),
        ("depthwise=fp32 head=fp16", {"depthwise": "fp32", "head": "fp16"}),
        (" features.0.*=float32 ,, norm=BFLOAT16, ", {"features.0.*": "fp32", "norm": "bf16"}),
        ("head=fp16,head=half", {"head": "fp16"}),
        ("", {}),
    ],
)
def test_layers_are_read_from_text(text: str, layers: dict[str, str]) -> None:
    assert PrecisionConfig.parse({"mode": "bf16", "layers": text}).layers == layers
    assert PrecisionConfig(mode="bf16", layers=layers).layers == layers


def test_layers_keep_the_order_they_were_written_in() -> None:
    assert list(PrecisionConfig(mode="bf16", layers="b=fp32,a=fp16,c=fp32").layers) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("depthwise", "'depthwise' must be LAYER=VALUE"),
        ("=fp32", "'=fp32' must be LAYER=VALUE"),
        ("head=", "'head=' must be LAYER=VALUE"),
        ("head=fp8", "'fp32', 'bf16' or 'fp16'"),
        ("head=tf32", "'fp32', 'bf16' or 'fp16'"),
        ({"head": 32}, "'fp32', 'bf16' or 'fp16'"),
        (["head=fp32"], "dictionary"),
    ],
)
def test_unreadable_layers_are_refused_by_name(layers: object, words: str) -> None:
    with pytest.raises(RecipeError, match=r"^layers") as caught:
        PrecisionConfig.parse({"layers": layers})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("emulated", "mode"),
    [("tf32", "fp32"), ("bf16", "bf16"), ("fp16", "fp16"), ("fp8-e4m3", "bf16"), ("fp8-e5m2", "bf16")],
)
def test_a_rehearsal_brings_its_mode_and_refuses_others(emulated: str, mode: str) -> None:
    for values in ({"emulate": emulated}, {"emulate": emulated, "mode": "auto"}, {"emulate": emulated, "mode": mode}):
        config = PrecisionConfig.parse(values)
        assert (config.mode, config.emulate) == (mode, emulated)
    for other in set(MODES) - {mode}:
        with pytest.raises(RecipeError, match=f"emulate = {emulated} rehearses the mode {mode}; mode = {other}"):
            PrecisionConfig.parse({"emulate": emulated, "mode": other})


@pytest.mark.parametrize("emulated", ["fp32", "bf17", "", 16, True, ["fp16"], {"fp16": 1}])
def test_unknown_rehearsals_are_refused(emulated: object) -> None:
    with pytest.raises(RecipeError, match=r"^emulate"):
        PrecisionConfig.parse({"emulate": emulated})


@pytest.mark.parametrize(
    ("mode", "beneath"),
    [
        ("fp32", "fp32"),
        ("tf32", "tf32"),
        ("bf16", "bf16"),
        ("fp16", "fp16"),
        ("bf16-true", "bf16"),
        ("fp16-true", "fp16"),
        ("fp8", "bf16"),
    ],
)
def test_evaluation_follows_training_without_half_weights_and_fp8(mode: Any, beneath: str) -> None:
    assert lowered(mode) == evaluation_config(PrecisionConfig(mode=mode)).mode == beneath
    assert evaluation_config(PrecisionConfig(mode=mode, evaluation="fp32")).mode == "fp32"
    assert evaluation_config(PrecisionConfig(mode="fp32", evaluation=mode)).mode == beneath


def test_evaluation_of_an_undecided_mode_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="undecided"):
        evaluation_config(PrecisionConfig())
    assert evaluation_config(PrecisionConfig(evaluation="bf16")).mode == "bf16"


@pytest.mark.parametrize(
    ("settings", "scaled"),
    [
        ({"mode": "auto"}, False),
        ({"mode": "auto", "layers": "head=fp16"}, False),
        ({"mode": "fp32"}, False),
        ({"mode": "bf16-true"}, False),
        ({"mode": "fp8"}, False),
        ({"mode": "fp16"}, True),
        ({"mode": "fp16-true"}, True),
        ({"emulate": "fp16"}, True),
        ({"emulate": "fp8-e5m2"}, False),
        ({"mode": "bf16", "layers": "head=fp16"}, True),
        ({"mode": "fp16", "scaling": "off"}, False),
        ({"mode": "fp32", "scaling": "static"}, True),
        ({"mode": "bf16", "scaling": "dynamic"}, True),
    ],
)
def test_the_loss_is_scaled_where_fp16_is_in_play_or_it_was_asked_for(settings: dict[str, Any], scaled: bool) -> None:
    assert uses_scaling(PrecisionConfig.parse(settings)) == scaled


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
        {"probe_seconds": -1},
        {"scaling": "sometimes"},
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
