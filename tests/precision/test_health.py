"""The health of layers in a format, on numbers whose fate is known."""

import math

import pytest
import torch

from halftone.precision.formats import FORMATS
from halftone.precision.health import LOST, Health, health
from halftone.precision.magnitudes import Magnitudes
from halftone.precision.watch import LayerNumbers


def of(*values: float) -> Magnitudes:
    found = Magnitudes()
    found.add(torch.tensor(values))
    return found


def layer(
    output: Magnitudes | None = None, gradient: Magnitudes | None = None, weight: Magnitudes | None = None
) -> LayerNumbers:
    return LayerNumbers(output or of(1.0), gradient or of(1e-3), weight or of(1e-3))


def judged(name: str = "fp16", **layers: LayerNumbers) -> Health:
    return health(layers, name)


def test_what_fits_needs_no_care() -> None:
    found = judged("bf16", a=layer(), b=layer(of(3e38), of(1e-30)))
    assert found.keep == ()
    assert found.loss_scale == 1
    assert found.format == "bf16"


def test_the_scale_brings_tiny_gradients_into_fp16() -> None:
    tiny = [1e-9, 3e-9, 1e-8, 1e-6]
    found = judged(a=layer(gradient=of(*tiny), weight=of(1e-6)))
    one = found.layers[0]
    assert one.gradient.underflow == 3 / 4 == one.lost
    assert one.scaled_gradient.underflow == 0 == one.lost_scaled
    assert found.keep == ()
    values = torch.tensor(tiny)
    assert (values.half() == 0).sum() == 3
    assert (values * found.loss_scale).half().all()
    assert found.loss_scale == 2.0**24  # its cap: the largest gradient leaves room for more


def test_one_scale_serves_all_layers_and_the_largest_gradient_sets_it() -> None:
    found = judged(
        small=layer(gradient=of(*[1e-12] * 10), weight=of(1e-12)), large=layer(gradient=of(100.0), weight=of(1e-3))
    )
    assert found.loss_scale == 2.0 ** math.floor(math.log2(65504 / 100) - 4) == 32
    assert found.keep == ("small",)
    small = found.layers[0]
    assert small.keep == "100.0% of its gradient is lost even with a loss scale of 32"


def test_the_gradient_of_weights_counts_as_well() -> None:
    found = judged(a=layer(gradient=of(1.0), weight=of(1e-12, 1e-12, 1.0)))
    assert found.layers[0].lost == found.layers[0].weight_gradient.underflow == 2 / 3
    assert found.keep == ("a",)


@pytest.mark.parametrize(("lost", "kept"), [(4, False), (5, False), (6, True)])
def test_a_layer_is_kept_when_it_loses_more_than_a_twentieth(lost: int, kept: bool) -> None:
    values = of(*[1.0] * (100 - lost), *[1e-20] * lost)
    found = judged(a=layer(gradient=values, weight=of(1.0)))
    assert found.layers[0].lost_scaled == lost / 100
    assert (found.keep == ("a",)) == kept == (lost / 100 > LOST)


def test_zeros_are_not_lost() -> None:
    found = judged(a=layer(gradient=of(*[0.0] * 99, 1.0)))
    one = found.layers[0].gradient
    assert (one.zeros, one.underflow) == (0.99, 0)
    assert found.keep == ()


def test_an_output_that_overflows_is_kept_in_every_format_that_it_leaves() -> None:
    numbers = layer(of(*[1.0] * 99, 70000.0))
    assert judged("fp16", a=numbers).layers[0].keep == "1.00% of its output overflows"
    assert judged("bf16", a=numbers).keep == ()


def test_an_output_near_the_end_of_fp16_is_kept() -> None:
    found = judged(near=layer(of(40000.0)), far=layer(of(20000.0)))
    assert found.keep == ("near",)
    assert found.layers[0].keep == "its output is 0.7 bits from overflowing"
    assert found.layers[1].output.headroom_bits == pytest.approx(math.log2(65504 / 20000))


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2"])
def test_formats_of_eight_bits_are_judged_with_a_scale_per_tensor(name: str) -> None:
    held = FORMATS[name]
    depth = held.largest / held.smallest  # what lies between the largest and the smallest number
    values = [1e-9, 1e-9 / depth * 1.2, 1e-9 / depth / 3]
    found = judged(name, a=layer(of(*values), of(*values), of(1e-9)))
    one = found.layers[0]
    dtype = {"fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}[name]
    scaled = torch.tensor(values, dtype=torch.float64) * (held.largest / 1e-9)
    assert (scaled.to(dtype).double() == 0).sum() == 1
    assert one.output.underflow == one.gradient.underflow == pytest.approx(1 / 3)
    assert one.output.overflow == 0
    assert one.output.headroom_bits == pytest.approx(0)
    assert found.loss_scale == 1
    assert one.keep.startswith("33.3% of its gradient is lost")


def test_a_large_output_without_a_large_range_fits_eight_bits() -> None:
    assert judged("fp8-e4m3", a=layer(of(1e6, 2e6), of(1e6), of(1e6))).keep == ()


def test_the_scale_stays_below_its_cap() -> None:
    numbers = {"a": layer(gradient=of(1e-12), weight=of(1e-12))}
    assert health(numbers, "fp16").loss_scale == 2.0**24
    assert health(numbers, "fp16", scale_cap=1024.0).loss_scale == 1024


def test_layers_that_never_ran_are_left_out_and_the_order_stays() -> None:
    found = judged(b=layer(), never=LayerNumbers(), a=layer())
    assert [one.name for one in found.layers] == ["b", "a"]
    assert judged("fp16").layers == ()


def test_a_layer_without_gradients_is_judged_by_its_output() -> None:
    found = judged(frozen=LayerNumbers(of(1.0), Magnitudes(), Magnitudes()))
    one = found.layers[0]
    assert (one.lost, one.lost_scaled, one.gradient.zeros, one.gradient.median_exponent) == (0, 0, 0, None)
    assert found.loss_scale == 1


def test_the_median_is_said_as_an_exponent() -> None:
    assert judged(a=layer(of(1.5, 5.0, 100.0))).layers[0].output.median_exponent == 2


def test_a_record_of_it_is_plain_json() -> None:
    found = judged(a=layer(of(70000.0), of(1e-12)))
    assert Health.model_validate_json(found.model_dump_json()) == found
