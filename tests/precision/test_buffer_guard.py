"""Buffers that a forward pass changed are put back when its step is skipped."""

import math

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


def test_buffers_of_every_kind_are_put_back() -> None:
    model = Counting()
    precision = Precision("fp32", model, torch.optim.SGD(model.parameters(), lr=0.0))
    reference = model.mean
    for number in range(1, 4):
        precision.backward(_forward(precision, model, torch.ones(1, 2)).sum())
        precision.step()
        mean = model.mean.clone()
        skip(precision, model)
        assert int(model.count) == number
        assert torch.equal(model.mean, mean)
    assert torch.equal(reference, torch.zeros(2))


def test_buffers_keep_their_place_in_memory() -> None:
    """An average of the weights, a saved state or a graph may hold on to them."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    held = model.state_dict()
    places = {name: tensor.data_ptr() for name, tensor in held.items()}
    precision = Precision("fp32", model, sgd(model))
    with precision.forward():
        loss = model(torch.tensor([[math.inf, 1.0], [0.0, 2.0]])).sum()
    precision.backward(loss)
    assert not precision.step().applied
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == places
    assert torch.equal(held["0.running_mean"], torch.zeros(2))


def test_only_training_is_remembered() -> None:
    """Between an evaluation and the next step, a person may load other statistics; these are what is put back."""
    model = Counting()
    precision = Precision("fp32", model, sgd(model))
    model.eval()
    _forward(precision, model, torch.ones(1, 2))
    model.train()
    model.count.fill_(70)
    skip(precision, model)
    assert int(model.count) == 70


def test_a_moved_network_is_noticed() -> None:
    model = Counting()
    precision = Precision("fp32", model, sgd(model))
    skip(precision, model)
    model.double()
    model.float()
    model.mean.fill_(3.0)
    skip(precision, model)
    assert torch.equal(model.mean, torch.full((2,), 3.0))
