"""Rehearsal: rounding against exact oracles, and every product against its sums in fp32, rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.precision.config import Emulated
from halftone.precision.emulate import Rehearsal, round_to_tf32, rounding
from halftone.precision.formats import FORMATS

HALVES: dict[Emulated, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def exact_tf32(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest number with 10 bits, ties to even, by comparing the 13 bits that go with half of their range."""
    bits = values.view(np.uint32).astype(np.uint64)
    sign, magnitude = bits & 0x80000000, bits & 0x7FFFFFFF
    kept, gone = magnitude >> 13, magnitude & 0x1FFF
    up = (gone > 0x1000) | ((gone == 0x1000) & (kept % 2 == 1))
    rounded = (sign | ((kept + up) << 13)).astype(np.uint32).view(np.float32)
    return np.where(magnitude < 0x7F800000, rounded, values)


def bit_patterns() -> npt.NDArray[np.float32]:
    """Floats of every exponent and sign with random digits, ties among them, and what is not a plain number."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 2**32, 200_000, dtype=np.uint64)
    ties = (random.integers(0, 2**19, 20_000, dtype=np.uint64) << 13) | 0x1000
    edges = np.array(
        [0, 1, 0x1000, 0x1001, 0x3000, 0x7FFFFF, 0x800000, 0x7F7FEFFF, 0x7F7FF000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000,
         0x7F800001, 0x7FFFFFFF], dtype=np.uint64,
    )  # fmt: skip
    return np.concatenate([patterns, ties, edges, edges | 0x80000000]).astype(np.uint32).view(np.float32)


def test_tf32_is_rounded_exactly_over_all_exponents_ties_subnormals_infinities_and_nans() -> None:
    values = bit_patterns()
    rounded = round_to_tf32(torch.from_numpy(values)).numpy()
    np.testing.assert_array_equal(rounded.view(np.uint32), exact_tf32(values).view(np.uint32))


def test_tf32_is_the_nearest_number_by_arithmetic_in_double() -> None:
    """Another way to say it: the digits scaled to whole numbers, which numpy rounds with ties to even."""
    values = bit_patterns()
    values = values[np.isfinite(values)]
    wide = values.astype(np.float64)
    exponents = np.maximum(np.frexp(wide)[1] - 1, -126)
    units = np.exp2(exponents - FORMATS["tf32"].mantissa_bits)
    expected = np.rint(wide / units) * units
    expected = np.where(np.abs(expected) >= 2.0**128, np.copysign(np.inf, expected), expected)
    rounded = round_to_tf32(torch.from_numpy(values)).numpy()
    np.testing.assert_array_equal(rounded.astype(np.float64), expected)


def test_rounding_to_tf32_leaves_shape_and_layout_alone() -> None:
    values = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    for given in (values, values.permute(1, 0, 3, 2), values[:, :, ::2]):
        rounded = round_to_tf32(given)
        assert rounded.shape == given.shape
        np.testing.assert_array_equal(rounded.numpy(), exact_tf32(np.ascontiguousarray(given.numpy())))
    assert round_to_tf32(torch.tensor(1 + 2.0**-12)) == 1.0


@pytest.mark.parametrize("name", HALVES)
def test_rounding_to_a_half_is_the_cast_of_torch(name: Emulated) -> None:
    values = torch.from_numpy(bit_patterns())
    expected = values.to(HALVES[name]).float()
    assert torch.equal(rounding(name)(values).view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize(("name", "dtype"), [("fp8-e4m3", torch.float8_e4m3fn), ("fp8-e5m2", torch.float8_e5m2)])
@pytest.mark.parametrize("magnitude", [1e-9, 1e-3, 1.0, 1e4])
def test_rounding_to_eight_bits_puts_the_largest_value_at_the_end_of_the_format(
    name: Emulated, dtype: torch.dtype, magnitude: float
) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * magnitude
    rounded = rounding(name)(values)
    largest = torch.finfo(dtype).max
    scale = largest / values.abs().max()
    expected = (values * scale).clamp(-largest, largest).to(dtype).float() / scale
    assert torch.equal(rounded, expected)
    torch.testing.assert_close(rounded.abs().max(), values.abs().max())
    error = (rounded - values).abs()
    normal = values.abs() * scale >= torch.finfo(dtype).smallest_normal
    half_a_unit = torch.finfo(dtype).eps / 2
    assert (error[normal] <= values[normal].abs() * half_a_unit * 1.0001).all()
    assert rounded.unique().numel() < 256


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2"])
def test_rounding_to_eight_bits_keeps_zeros_and_what_is_not_finite_visible(name: Emulated) -> None:
    assert not rounding(name)(torch.zeros(3)).any()
    assert not rounding(name)(torch.tensor([1.0, float("inf")])).isfinite().all()
    assert rounding(name)(torch.tensor([1.0, float("nan")])).isnan().any()


def convolved(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(images, weight, bias, stride=2, padding=1)


def grouped(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, groups=4, padding=1)


def transposed(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv_transpose2d(images, weight, stride=2)


PRODUCTS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "conv2d": (convolved, [(3, 4, 9, 9), (8, 4, 3, 3), (8,)]),
    "depthwise": (grouped, [(3, 4, 9, 9), (4, 1, 3, 3)]),
    "conv_transpose2d": (transposed, [(3, 4, 5, 5), (4, 6, 2, 2)]),
    "conv1d": (F.conv1d, [(3, 4, 9), (6, 4, 3), (6,)]),
    "linear": (F.linear, [(7, 20), (5, 20), (5,)]),
    "linear without bias": (F.linear, [(7, 20), (5, 20)]),
    "linear over sequences": (F.linear, [(2, 7, 20), (5, 20), (5,)]),
    "matmul": (torch.matmul, [(7, 20), (20, 5)]),
    "matrix by vector": (torch.matmul, [(7, 20), (20,)]),
    "dot": (torch.matmul, [(20,), (20,)]),
    "bmm": (torch.bmm, [(3, 7, 20), (3, 20, 5)]),
    "baddbmm": (torch.baddbmm, [(3, 7, 5), (3, 7, 20), (3, 20, 5)]),
    "einsum": (lambda one, other: torch.einsum("bij,bkj->bik", one, other), [(3, 7, 20), (3, 5, 20)]),
}


def made(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in shapes]


def with_gradients(run: Callable[..., Tensor], inputs: list[Tensor], context: Any) -> list[Tensor]:
    """The output and the gradients of all inputs, for a gradient that both formats hold."""
    with context:
        output = run(*inputs)
        wanted = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
        output.backward(wanted.bfloat16().to(output.dtype))
    return [output.detach(), *(value.grad for value in inputs if value.grad is not None)]


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_forward_and_backward_are_those_of_fp32_rounded_once(name: Emulated, product: str) -> None:
    run, shapes = PRODUCTS[product]
    halves = made(shapes, HALVES[name])
    wide = [value.detach().float().requires_grad_() for value in halves]
    rehearsed = with_gradients(run, halves, Rehearsal(name))
    exact = with_gradients(run, wide, torch.enable_grad())
    assert len(rehearsed) == len(exact) == len(shapes) + 1
    for found, expected in zip(rehearsed, exact, strict=True):
        assert found.dtype == HALVES[name]
        assert torch.equal(found, expected.to(HALVES[name]))


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": True}], ids=str)
@pytest.mark.parametrize("name", HALVES)
def test_fused_attention_is_as_near_to_the_exact_one_as_its_roundings_allow(
    name: Emulated, options: dict[str, Any]
) -> None:
    def attended(*inputs: Tensor) -> Tensor:
        mask = {"attn_mask": torch.ones(9, 9, dtype=torch.bool).tril(3)} if "attn_mask" in options else options
        return F.scaled_dot_product_attention(*inputs, **mask)

    halves = made([(2, 3, 9, 8)] * 3, HALVES[name])
    wide = [value.detach().double().requires_grad_() for value in halves]
    found = with_gradients(attended, halves, Rehearsal(name))
    exact = with_gradients(attended, wide, torch.enable_grad())
    unit = 2.0 ** -(FORMATS[name].mantissa_bits + 1)
    for mine, expected in zip(found, exact, strict=True):
        assert mine.dtype == HALVES[name]
        assert 0.1 * unit < float((mine.double() - expected).norm() / expected.norm()) < 1.5 * unit


@pytest.mark.parametrize("name", HALVES)
def test_layers_under_autocast_are_rehearsed(name: Emulated) -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(20, 5), torch.randn(7, 20)
    with torch.autocast("cpu", HALVES[name]), Rehearsal(name):
        output = layer(inputs)
    rounded = [value.to(HALVES[name]).float() for value in (inputs, layer.weight, layer.bias)]
    assert torch.equal(output, F.linear(*rounded).to(HALVES[name]))


def test_a_product_that_is_too_large_for_fp16_becomes_infinite_and_a_small_one_zero() -> None:
    large, small = torch.full((1, 2), 300.0, dtype=torch.float16), torch.full((1, 1), 1e-4, dtype=torch.float16)
    with Rehearsal("fp16"):
        assert (large @ large.T).isinf().all()
        assert not (small @ small).any()
    with Rehearsal("bf16"):
        assert (large.bfloat16() @ large.bfloat16().T).isfinite().all()


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "sum": lambda values: values.sum(1),
    "softmax": lambda values: values.softmax(1),
    "layer_norm": lambda values: F.layer_norm(values, values.shape[-1:]),
    "batch_norm": lambda values: F.batch_norm(values, None, None, training=True),
    "add": lambda values: values + values.flip(0) * 0.3,
    "max_pool": lambda values: F.max_pool1d(values[None], 3)[0],
}


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_product_is_left_alone(name: Emulated, other: str) -> None:
    plain, rehearsed = made([(6, 12)], HALVES[name]), made([(6, 12)], HALVES[name])
    expected = with_gradients(OTHERS[other], plain, torch.enable_grad())
    found = with_gradients(OTHERS[other], rehearsed, Rehearsal(name))
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp8-e4m3", "fp8-e5m2"])
def test_products_in_fp32_and_in_double_are_left_alone(name: Emulated) -> None:
    for dtype in (torch.float32, torch.float64):
        expected = with_gradients(*_of(PRODUCTS["linear"], dtype), torch.enable_grad())
        found = with_gradients(*_of(PRODUCTS["linear"], dtype), Rehearsal(name))
        assert all(map(torch.equal, found, expected))


def _of(product: tuple[Callable[..., Tensor], list[tuple[int, ...]]], dtype: torch.dtype) -> tuple[Any, list[Tensor]]:
    return product[0], made(product[1], dtype)


def test_fp16_leaves_products_in_bf16_alone_and_the_other_way_round() -> None:
    for name, other in (("fp16", torch.bfloat16), ("bf16", torch.float16)):
        expected = with_gradients(*_of(PRODUCTS["conv2d"], other), torch.enable_grad())
        found = with_gradients(*_of(PRODUCTS["conv2d"], other), Rehearsal(name))  # type: ignore[arg-type]
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", ["tf32", "fp8-e4m3", "fp8-e5m2"])
@pytest.mark.parametrize("product", ["linear", "conv2d", "bmm"])
def test_where_no_tensor_is_held_in_the_format_the_factors_are_rounded_and_what_is_added_is_not(
    name: Emulated, product: str
) -> None:
    run, shapes = PRODUCTS[product]
    held = torch.float32 if name == "tf32" else torch.bfloat16
    inputs = made(shapes, held)
    with Rehearsal(name), torch.no_grad():
        found = run(*inputs)
    wide = [value.detach().float() for value in inputs]
    factors = [rounding(name)(value) for value in wide[:2]]
    expected = run(*factors, *wide[2:]).to(held)
    assert found.dtype == held
    assert torch.equal(found, expected)
    assert not torch.equal(found, run(*wide).to(held))


@pytest.mark.parametrize("name", ["tf32", "fp8-e4m3", "fp8-e5m2"])
def test_gradients_are_products_of_rounded_factors_too(name: Emulated) -> None:
    held = torch.float32 if name == "tf32" else torch.bfloat16
    one, other = made([(7, 20), (20, 5)], held)
    _, left, right = with_gradients(torch.matmul, [one, other], Rehearsal(name))
    wanted = torch.randn((7, 5), generator=torch.Generator().manual_seed(4)).bfloat16().float()
    rounded = [rounding(name)(value.detach().float()) for value in (one, other, wanted)]
    assert torch.equal(left, (rounded[2] @ rounded[1].T).to(held))
    assert torch.equal(right, (rounded[0].T @ rounded[2]).to(held))


def test_attention_in_tf32_is_of_rounded_factors() -> None:
    inputs = made([(2, 3, 9, 8)] * 3, torch.float32)
    with torch.no_grad():
        plain = F.scaled_dot_product_attention(*inputs)
        with Rehearsal("tf32"):
            found = F.scaled_dot_product_attention(*inputs)
    assert not torch.equal(found, plain)


def test_attention_under_fp8_is_that_of_bf16() -> None:
    inputs = made([(2, 3, 9, 8)] * 3, torch.bfloat16)
    found = with_gradients(F.scaled_dot_product_attention, inputs, Rehearsal("fp8-e4m3"))
    expected = with_gradients(
        F.scaled_dot_product_attention, made([(2, 3, 9, 8)] * 3, torch.bfloat16), Rehearsal("bf16")
    )
    assert all(map(torch.equal, found, expected))


def test_a_rehearsal_ends_with_its_context() -> None:
    one, other = made([(7, 200), (200, 5)], torch.float16)
    before = one @ other
    context = Rehearsal("fp16")
    for _ in range(2):  # a context serves for the forward and for the backward pass
        with context:
            rehearsed = one @ other
        assert torch.equal(one @ other, before)
        assert torch.equal(rehearsed, (one.float() @ other.float()).half())
