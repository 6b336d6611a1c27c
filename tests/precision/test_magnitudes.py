"""How large numbers are and what formats make of them, with real casts as the oracle."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from halftone.precision.formats import FORMATS
from halftone.precision.magnitudes import LOWEST, Magnitudes, fit, loss_scale_for

CASTS = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8-e4m3": torch.float8_e4m3fn,
    "fp8-e5m2": torch.float8_e5m2,
}


def spread(low: float, high: float, count: int = 100_000, *, seed: int = 0) -> Tensor:
    """Numbers of both signs whose exponents are uniform, some zeros among them."""
    random = np.random.default_rng(seed)
    values = np.exp2(random.uniform(low, high, count)) * random.choice([-1.0, 1.0], count)
    values[random.random(count) < 0.1] = 0
    return torch.from_numpy(values.astype(np.float32))


def counted(*tensors: Tensor) -> Magnitudes:
    found = Magnitudes()
    for tensor in tensors:
        found.add(tensor)
    return found


def share(mask: Tensor, of: Tensor) -> float:
    return int(mask.sum()) / int(of.sum())


def test_bins_are_those_of_numpy() -> None:
    values = torch.cat([spread(-160, 127), torch.tensor([2.0**-149, 2.0**-126, 1.0, 2.0, 3.4e38])])
    found = counted(values)
    array = values.double().numpy()
    exponents = np.floor(np.log2(np.abs(array[array != 0]))).astype(int)
    expected = np.bincount(exponents - LOWEST, minlength=len(found.counts))
    np.testing.assert_array_equal(found.counts.numpy(), expected)
    assert (found.zeros, found.nonzero, found.total) == ((array == 0).sum(), (array != 0).sum(), len(array))
    assert found.largest == float(np.float32(3.4e38))


def test_tensors_add_up() -> None:
    parts = [spread(-30, 10, 1000, seed=seed).view(10, 100) for seed in range(3)]
    one, whole = counted(*parts), counted(torch.cat(parts))
    assert torch.equal(one.counts, whole.counts)
    assert (one.zeros, one.not_finite, one.largest) == (whole.zeros, whole.not_finite, whole.largest)


def test_what_is_not_finite_is_counted_apart() -> None:
    found = counted(torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 5.0]))
    assert (found.not_finite, found.zeros, found.nonzero, found.total, found.largest) == (3, 2, 1, 6, 5.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_halves_and_tensors_of_any_layout_are_counted_as_their_values(dtype: torch.dtype) -> None:
    values = spread(-10, 10, 600).to(dtype).view(2, 3, 10, 10).to(memory_format=torch.channels_last)
    assert torch.equal(counted(values.requires_grad_()).counts, counted(values.detach().float().contiguous()).counts)


def test_nothing_is_nothing() -> None:
    found = counted(torch.zeros(0), torch.zeros(3))
    assert (found.total, found.nonzero, found.middle()) == (3, 0, None)
    whole = fit(found, FORMATS["fp16"])
    assert (whole.underflow, whole.subnormal, whole.overflow, whole.headroom) == (0, 0, 0, None)


@pytest.mark.parametrize("scale", [1.0, 2.0**-3, 1024.0, 65536.0, 2.0**24])
@pytest.mark.parametrize("name", CASTS)
def test_the_share_that_underflows_is_the_share_that_a_cast_makes_zero(name: str, scale: float) -> None:
    held, dtype = FORMATS[name], CASTS[name]
    middle = math.log2(held.smallest) - math.log2(scale)
    values = spread(max(middle - 20, -149), middle + 20)
    values = values[values.double().abs() * scale != held.smallest / 2]  # a tie goes to zero, and is one value of many
    cast = (values.double() * scale).to(dtype).double()  # in double, so that the scaling itself loses nothing
    nonzero = values != 0
    assert fit(counted(values), held, scale=scale).underflow == share((cast == 0) & nonzero, nonzero)


@pytest.mark.parametrize("scale", [1.0, 2.0**-3, 1024.0])
@pytest.mark.parametrize("name", CASTS)
def test_the_subnormal_share_is_that_of_the_values_below_the_normal_ones_that_survive(name: str, scale: float) -> None:
    held = FORMATS[name]
    middle = math.log2(held.smallest_normal) - math.log2(scale)
    values = spread(max(middle - 15, -149), middle + 15)
    scaled = values.double() * scale
    survive = scaled.to(CASTS[name]).double() != 0
    survive |= scaled.abs() == held.smallest / 2
    expected = survive & (scaled.abs() < held.smallest_normal)
    assert fit(counted(values), held, scale=scale).subnormal == share(expected, values != 0)


@pytest.mark.parametrize("scale", [1.0, 1024.0, 2.0**-10])
@pytest.mark.parametrize("name", CASTS)
def test_the_share_that_overflows_is_counted_to_the_next_power_of_two(name: str, scale: float) -> None:
    held = FORMATS[name]
    end = math.log2(held.largest) - math.log2(scale)
    values = spread(end - 20, min(end + 20, 127.9))
    found = fit(counted(values), held, scale=scale).overflow
    scaled = values.double().abs() * scale
    assert found == share(scaled >= 2.0 ** math.ceil(math.log2(held.largest)), values != 0)
    assert found <= share(scaled > held.largest, values != 0)


def test_the_share_that_overflows_in_fp16_is_that_of_a_cast() -> None:
    values = spread(0, 32)
    found = fit(counted(values), FORMATS["fp16"]).overflow
    assert found == pytest.approx(share(values.half().isinf(), values != 0), abs=1e-3)


@pytest.mark.parametrize("scale", [1.0, 256.0, 2.0**-5])
def test_headroom_is_the_power_of_two_that_still_fits(scale: float) -> None:
    values = torch.tensor([0.001, -3.0, 700.0, 0.0])
    found = fit(counted(values), FORMATS["fp16"], scale=scale).headroom
    assert found == pytest.approx(math.log2(65504 / (700 * scale)))
    assert found is not None
    assert (values * scale * 2 ** (found - 1e-3)).half().isfinite().all()
    assert not (values * scale * 2 ** (found + 1e-2)).half().isfinite().all()


def test_a_scale_moves_the_histogram() -> None:
    values = spread(-40, 0)
    for held in FORMATS.values():
        scaled, moved = fit(counted(values * 4096), held), fit(counted(values), held, scale=4096.0)
        assert (scaled.underflow, scaled.subnormal, scaled.overflow) == (
            moved.underflow,
            moved.subnormal,
            moved.overflow,
        )


@pytest.mark.parametrize("count", [1, 2, 5, 1000, 1001])
def test_the_middle_is_the_exponent_of_the_median(count: int) -> None:
    values = spread(-20, 5, count, seed=3)
    nonzero = np.sort(np.abs(values.numpy()[values.numpy() != 0]))
    lower = nonzero[(len(nonzero) - 1) // 2]
    assert counted(values).middle() == math.floor(math.log2(lower))


@pytest.mark.parametrize("largest", [1e-8, 3e-5, 0.02, 1.0, 100.0, 4093.9, 4094.0, 60000.0, 1e6])
@pytest.mark.parametrize("margin", [0, 4])
def test_the_proposed_scale_is_the_largest_power_of_two_within_the_margin(largest: float, margin: int) -> None:
    scale = loss_scale_for(largest, FORMATS["fp16"], margin=margin)
    assert math.log2(scale) == round(math.log2(scale))
    assert 1 <= scale <= 2.0**24
    if scale > 1:
        assert largest * scale * 2**margin <= 65504
    if scale < 2.0**24:
        assert largest * scale * 2 * 2**margin > 65504
    assert loss_scale_for(largest, FORMATS["fp16"], margin=margin, cap=16.0) == min(scale, 16.0)


def test_without_gradients_no_scale_is_proposed() -> None:
    assert loss_scale_for(0.0, FORMATS["fp16"]) == 1.0
