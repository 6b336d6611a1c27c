"""What is said of a tensor, with numpy as the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from halftone.weights.facts import all_facts, tensor_facts

FLOATS = some.floats(width=32, allow_nan=True, allow_infinity=True)


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=FLOATS))
def test_numbers_are_those_of_numpy(array: np.ndarray) -> None:
    fact = tensor_facts("w", torch.from_numpy(array))
    finite = array[np.isfinite(array)].astype(np.float64)
    assert fact.shape == array.shape
    assert (fact.num_elements, fact.num_bytes) == (array.size, array.nbytes)
    assert fact.num_not_finite == (~np.isfinite(array)).sum()
    assert fact.zeros == pytest.approx((array == 0).mean())
    if finite.size:
        assert fact.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-300)
        assert fact.deviation == pytest.approx(finite.std(), rel=1e-6, abs=1e-300)
        assert fact.largest == np.abs(finite).max()
    else:
        assert (fact.mean, fact.deviation, fact.largest) == (None, None, None)


@given(arrays.arrays(np.float32, 20, elements=some.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_what_fp16_loses_is_what_numpy_loses(array: np.ndarray) -> None:
    half = tensor_facts("w", torch.from_numpy(array)).half
    with np.errstate(over="ignore", under="ignore"):
        rounded = array.astype(np.float16)
    assert half is not None
    assert half.overflow == pytest.approx(np.isinf(rounded).mean())
    assert half.underflow == pytest.approx(((rounded == 0) & (array != 0)).mean())
    small = (np.abs(array) < np.finfo(np.float16).tiny) & (rounded != 0)
    assert half.subnormal == pytest.approx(small.mean())


def test_the_edges_of_fp16() -> None:
    half = tensor_facts("w", torch.tensor([65504.0, 65520.0, 2.0**-14, 2.0**-15, 2.0**-25, 2.0**-26, 0.0, 1.0])).half
    assert half is not None
    assert (half.overflow, half.underflow, half.subnormal) == (1 / 8, 2 / 8, 1 / 8)


@pytest.mark.parametrize("tensor", [torch.tensor(3), torch.tensor([True, False]), torch.zeros(2, dtype=torch.uint8)])
def test_whole_numbers_have_no_half(tensor: torch.Tensor) -> None:
    fact = tensor_facts("count", tensor)
    assert fact.half is None
    assert fact.mean == pytest.approx(float(tensor.double().mean()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn])
def test_short_formats(dtype: torch.dtype) -> None:
    fact = tensor_facts("w", torch.tensor([1.0, -2.0, 0.0, 0.5]).to(dtype))
    assert (fact.mean, fact.largest, fact.zeros) == (-0.125, 2.0, 0.25)
    assert f"torch.{fact.dtype}" == str(dtype)


def test_complex_numbers_count_by_both_parts() -> None:
    fact = tensor_facts("c", torch.tensor([3 + 4j]))
    assert (fact.num_elements, fact.largest) == (1, 4.0)


def test_an_empty_tensor_has_nothing_to_say() -> None:
    fact = tensor_facts("none", torch.ones(0, 3))
    assert (fact.mean, fact.zeros, fact.num_elements) == (None, 0.0, 0)


def test_totals() -> None:
    facts, totals = all_facts({"a": torch.ones(2, 3), "b": torch.tensor([float("nan")]), "n": torch.tensor(1)})
    assert [fact.name for fact in facts] == ["a", "b", "n"]
    assert (totals.num_tensors, totals.num_elements, totals.num_bytes) == (3, 8, 6 * 4 + 4 + 8)
    assert totals.num_not_finite == 1
    assert all_facts({})[1].num_bytes == 0
