"""Buffers that a forward pass changed are put back when its step is skipped."""

import math

import pytest
import torch
from small_networks import sgd
from torch import Tensor, nn

from halftone.precision.verbs import Precision


class Counting(nn.Module):
    """A layer with buffers of many kinds, which each forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(2), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, inputs: Tensor) -> Tensor:
        self.count += 1
        self.mean = 0.5 * self.mean + 0.5 * inputs.detach().mean(0)  # another tensor each time
        return self.linear(inputs)


def skip(precision: Precision, model: nn.Module) -> None:
    with precision.forward():
        loss = model(torch.full((1, 2), math.inf)).sum()
    precision.backward(loss)
    assert not precision.step().applied


def _forward(precision: Precision, model: nn.Module, inputs: Tensor) -> Tensor:
    with precision.forward():
        return model(inputs)


@pytest.mark.parametrize("waits", [True, False])
def test_buffers_of_every_kind_are_put_back(waits: bool) -> None:
    model = Counting()
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    reference = model.mean
    for number in range(1, 4):
        precision.backward(_forward(precision, model, torch.ones(1, 2)).sum())
        precision.step()
        mean = model.mean.clone()
        skip(precision, model)
        assert int(model.count) == number
        assert torch.equal(model.mean, mean)
    assert torch.equal(reference, torch.zeros(2))


@pytest.mark.parametrize("waits", [True, False])
def test_buffers_keep_their_place_in_memory(waits: bool) -> None:
    """An average of the weights, a saved state or a graph may hold on to them."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    held = model.state_dict()
    places = {name: tensor.data_ptr() for name, tensor in held.items()}
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    with precision.forward():
        loss = model(torch.tensor([[math.inf, 1.0], [0.0, 2.0]])).sum()
    precision.backward(loss)
    assert not precision.step().applied
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == places
    assert torch.equal(held["0.running_mean"], torch.zeros(2))


@pytest.mark.parametrize("waits", [True, False])
def test_only_training_is_remembered(waits: bool) -> None:
    """Between an evaluation and the next step, a person may load other statistics; these are what is put back."""
    model = Counting()
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    model.eval()
    _forward(precision, model, torch.ones(1, 2))
    model.train()
    model.count.fill_(70)
    skip(precision, model)
    assert int(model.count) == 70


@pytest.mark.parametrize("waits", [True, False])
def test_a_moved_network_is_noticed(waits: bool) -> None:
    model = Counting()
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    skip(precision, model)
    model.double()
    model.float()
    model.mean.fill_(3.0)
    skip(precision, model)
    assert torch.equal(model.mean, torch.full((2,), 3.0))


class Collecting(nn.Module):
    """A layer whose buffer grows with each forward pass, and was absent at first."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("seen", None)

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = inputs.detach() if self.seen is None else torch.cat([self.seen, inputs.detach()])
        return self.linear(inputs)


class Remembering(nn.Linear):
    """A layer with a buffer that becomes a view of the input."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.register_buffer("last", torch.zeros(2))

    def forward(self, inputs: Tensor) -> Tensor:
        self.last = inputs.detach()[0]
        return super().forward(inputs)


@pytest.mark.parametrize("waits", [True, False])
def test_buffers_that_change_their_shape_are_put_back(waits: bool) -> None:
    model = Collecting()
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    skip(precision, model)
    assert model.seen is None
    precision.backward(_forward(precision, model, torch.ones(1, 2)).sum())
    assert precision.step().applied
    skip(precision, model)
    assert torch.equal(model.seen, torch.ones(1, 2))


@pytest.mark.parametrize("waits", [True, False])
def test_what_a_buffer_is_a_view_of_stays_as_it_is(waits: bool) -> None:
    model = Remembering()
    precision = Precision("fp32", model, sgd(model, fused=True), waits=waits)
    inputs = torch.full((1, 2), math.inf)
    precision.backward(_forward(precision, model, inputs).sum())
    assert not precision.step().applied
    assert inputs.isinf().all()
    assert torch.equal(model.last, torch.zeros(2))
