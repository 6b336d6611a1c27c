"""Tensors side by side in one memory."""

import torch

from halftone.system.packed import Packed, by_type


def some() -> list[torch.Tensor]:
    torch.manual_seed(0)
    filters = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    return [torch.randn(5), torch.randn(()), torch.randn(0, 3), filters, torch.randn(2, 3).T, torch.randn(1).expand(4)]


def test_what_is_taken_is_given() -> None:
    tensors = some()
    packed = Packed(tensors)
    flat = packed.take(tensors)
    assert flat.shape == (5 + 1 + 0 + 48 + 6 + 4,)
    others = [torch.zeros_like(tensor) for tensor in tensors]
    packed.give(others)
    assert all(torch.equal(one, other) for one, other in zip(tensors, others, strict=True))


def test_one_operation_reaches_all() -> None:
    tensors = some()
    packed = Packed(tensors)
    packed.take(tensors).mul_(2)
    others = [torch.zeros_like(tensor) for tensor in tensors]
    packed.give(others)
    assert all(torch.equal(2 * one, other) for one, other in zip(tensors, others, strict=True))


def test_layouts_are_kept() -> None:
    """A GPU copies tensors at once only between equal layouts."""
    tensors = some()
    strides = [view.stride() for view in Packed(tensors)._views]
    assert strides == [torch.empty_like(tensor).stride() for tensor in tensors]


def test_room_may_be_larger_and_shared() -> None:
    room = torch.zeros(100)
    first, second = Packed([torch.ones(3)], room), Packed([torch.ones(2), torch.ones(1)], room)
    first.take([torch.full((3,), 7.0)])
    assert second.flat.tolist() == [7, 7, 7]
    assert room[3:].count_nonzero() == 0


def test_groups_by_type() -> None:
    a, b, c = torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.ones(1)
    groups = by_type([a, None, b, c])
    assert [[id(tensor) for tensor in group] for group in groups] == [[id(a), id(c)], [id(b)]]
    assert by_type([None]) == []
