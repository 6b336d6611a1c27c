"""Every reason for a precision, from findings that are written out."""

from typing import Any

import pytest
import torchvision
from torch import nn

from halftone.precision.probe import Finding, Measured
from halftone.run.plan.explain import reason, why_no_gain
from halftone.system.device import DeviceFacts

CPU = DeviceFacts("cpu", "a CPU", frozenset({"fp32", "bf16"}))
OLD = DeviceFacts("cpu", "an old CPU", frozenset({"fp32"}))
GPU = DeviceFacts("cuda", "a GPU", frozenset({"fp32", "tf32", "bf16", "fp16"}), (8, 0))
PLAIN = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Linear(16, 16))


def one(mode: Any, speed: float | None, **values: Any) -> Measured:
    seconds = () if speed is None else (0.1 / speed, 0.12 / speed)
    values = {"verdict": "slower", "activation_mb": 4.0 if mode == "fp32" else 2.0, "cosine": 0.998, **values}
    return Measured(mode=mode, name=mode, seconds=seconds, speed=speed, **values)


def finding(*evidence: Measured, num_images: int = 32, complete: bool = True) -> Finding:
    taken = next(row for row in evidence if row.verdict == "taken")
    return Finding(
        mode=taken.mode,
        layers=taken.layers,
        num_images=num_images,
        rounds=7,
        seconds=3.0,
        budget=20.0,
        complete=complete,
        evidence=evidence,
    )


FULL, BF16 = one("fp32", 1.0), one("bf16", 1.5, verdict="taken")


def test_a_gain_is_said_in_time_memory_and_agreement() -> None:
    said = reason(finding(FULL, BF16), PLAIN, CPU, decoding=0)
    assert said == (
        "1.50 times as fast as fp32, 0.50 of the memory for activations, gradients agree (cosine 0.998); "
        "medians of 7 full steps on 32 images"
    )


def test_what_is_not_known_is_not_said() -> None:
    said = reason(finding(FULL, BF16.replaced(activation_mb=None, cosine=None)), PLAIN, CPU, decoding=0)
    assert said == "1.50 times as fast as fp32; medians of 7 full steps on 32 images"


def test_layers_in_fp32_are_compared_with_the_mode_throughout() -> None:
    mixed = one("bf16", 1.8, verdict="taken", layers={"depthwise": "fp32"})
    said = reason(finding(FULL, one("bf16", 1.5), mixed), PLAIN, CPU, decoding=0)
    assert said.startswith("1.80 times as fast as fp32 and 1.20 times as bf16 throughout, ")
    alone = reason(finding(FULL, one("bf16", None), mixed), PLAIN, CPU, decoding=0)
    assert "throughout" not in alone


@pytest.mark.parametrize("mode", ["tf32", "fp16", "bf16-true"])
def test_every_other_mode_is_a_gain_over_fp32(mode: str) -> None:
    assert reason(finding(FULL, one(mode, 2.0, verdict="taken")), PLAIN, GPU, decoding=0).startswith("2.00 times")


def test_a_budget_that_did_not_suffice_is_said() -> None:
    assert reason(finding(FULL, BF16, complete=False), PLAIN, CPU, decoding=0).endswith(
        " (the time did not suffice to measure all)"
    )


@pytest.mark.parametrize(("decoding", "words"), [(0.001, ""), (0.004, "decoding takes 1.9 times as long as the step")])
def test_data_that_comes_slower_than_it_is_computed_is_said(decoding: float, words: str) -> None:
    said = reason(finding(FULL, BF16), PLAIN, CPU, decoding=decoding)
    assert ("data-bound" in said) == bool(words)
    assert words in said


KEPT = one("fp32", 1.0, verdict="taken")


def not_gained(*others: Measured, model: nn.Module = PLAIN, facts: DeviceFacts = CPU, **values: Any) -> str:
    return reason(finding(KEPT, *others, **values), model, facts, decoding=0)


def test_without_a_gain_the_best_of_the_others_is_named() -> None:
    assert not_gained(one("bf16", 0.8), one("fp16", 1.01)) == "fp16 is 1.01 times as fast"


def test_where_nothing_else_ran_that_is_said() -> None:
    assert not_gained(one("bf16", None)) == "no other format runs here with gradients that agree"
    assert not_gained() == "no other format runs here with gradients that agree"


def test_a_fast_format_whose_gradients_disagree_is_not_held_up_as_the_best() -> None:
    out = one(
        "bf16", 2.0, cosine=0.1, fits=False, verdict="its gradients point elsewhere than those of fp32 (cosine 0.10)"
    )
    assert "is 2.00 times as fast" not in not_gained(out)


def test_emulation_is_a_reason() -> None:
    assert not_gained(one("bf16", 0.3), facts=OLD) == (
        "bf16 is 0.30 times as fast: an old CPU would emulate bf16 and fp16"
    )


def test_a_short_step_is_a_reason() -> None:
    short = KEPT.replaced(seconds=(0.002, 0.0021))
    said = reason(finding(short, one("bf16", 0.9)), PLAIN, CPU, decoding=0)
    assert said == "bf16 is 0.90 times as fast: a step takes 2.0 ms, and casting costs what the products save"


@pytest.mark.parametrize(("facts", "told"), [(GPU, True), (CPU, False)])
def test_few_images_are_a_reason_on_a_gpu(facts: DeviceFacts, told: bool) -> None:
    assert ("4 images do not fill the device" in not_gained(one("bf16", 1.0), facts=facts, num_images=4)) == told
    assert "do not fill" not in not_gained(one("bf16", 1.0), facts=facts, num_images=8)


def test_tf32_that_brings_most_of_it_is_a_reason() -> None:
    said = not_gained(one("bf16", 1.0), one("tf32", 1.5), facts=GPU)
    assert said == "bf16 is 1.00 times as fast: tf32 brings most of it already (1.50 times as fast)"
    assert "tf32" not in not_gained(one("bf16", 1.0), one("tf32", 1.1), facts=GPU)


def test_depthwise_convolutions_are_a_reason() -> None:
    model = torchvision.models.mobilenet_v2()
    assert "17 of 52 convolutions are depthwise, which reduced formats hardly help" in not_gained(
        one("bf16", 0.9), model=model
    )
    assert "depthwise" not in not_gained(one("bf16", 0.9), model=torchvision.models.resnet18())


def test_odd_channels_are_a_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 10, 3))
    assert "2 of 4 convolutions have channels that are no multiple of 8" in not_gained(one("bf16", 0.9), model=model)
    assert "multiple" not in not_gained(one("bf16", 0.9), model=model[:3][1:])


def test_all_that_speaks_against_it_is_said_in_one_sentence() -> None:
    causes = list(why_no_gain(finding(KEPT, one("bf16", 0.5), num_images=2), torchvision.models.mobilenet_v2(), OLD))
    assert len(causes) == 2
    said = not_gained(one("bf16", 0.5), model=torchvision.models.mobilenet_v2(), facts=OLD)
    assert said == f"bf16 is 0.50 times as fast: {', '.join(causes)}"
