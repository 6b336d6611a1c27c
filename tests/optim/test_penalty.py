"""The L1 penalty against autograd."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from halftone.optim.build import build_optimizer
from halftone.optim.config import OptimizerConfig
from halftone.optim.penalty import L1Penalty

STRENGTH = 0.03


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        module[0].weight[0, 0] = 0.0
    return module


def penalty_of(module: nn.Module, **settings: bool) -> L1Penalty:
    config = OptimizerConfig(name="sgd", lr=0.1, l2=0.0, l1=STRENGTH, **settings)
    return L1Penalty(build_optimizer(module, config, head=("2",)), config.l1)


@pytest.mark.parametrize("scale", [None, 1.0, 1024.0])
@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("decay_all", [False, True])
def test_equals_autograd_of_the_sum_of_absolute_weights(scale: float | None, num_parts: int, decay_all: bool) -> None:
    """Once per step, whatever the loss scale and in however many parts the batch went through."""
    ours = network().eval()
    theirs = copy.deepcopy(ours)
    images = torch.randn(6, 3)
    for part in images.chunk(num_parts):
        (ours(part).square().mean() * (scale or 1) / num_parts).backward()
    penalty_of(ours, decay_all=decay_all).add_gradients(None if scale is None else torch.tensor(scale))
    penalised = list(theirs.parameters()) if decay_all else [theirs[0].weight, theirs[2].weight]
    (theirs(images).square().mean() + STRENGTH * sum(weight.abs().sum() for weight in penalised)).backward()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad / (scale or 1), its.grad, rtol=1e-4, atol=1e-7)


def test_weights_without_a_gradient_are_left_out() -> None:
    module = network()
    module[2](torch.ones(1, 4)).sum().backward()
    penalty_of(module).add_gradients(None)
    assert module[0].weight.grad is None
    assert module[2].weight.grad is not None


def test_nothing_to_penalise_is_no_error() -> None:
    """As when all weights are frozen and only norms and biases are trained."""
    module = network()
    for place in (0, 2):
        module[place].weight.requires_grad_(False)
    penalty = penalty_of(module)
    module(torch.randn(4, 3)).sum().backward()
    before = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    penalty.add_gradients(None)
    after = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_it_makes_weights_small() -> None:
    module = nn.Linear(20, 1, bias=False)
    config = OptimizerConfig(name="sgd", lr=0.01, l2=0.0, l1=1.0, momentum=0.0)
    optimizer = build_optimizer(module, config, head=())
    penalty, sums = L1Penalty(optimizer, config.l1), []
    for _ in range(30):
        (module(torch.ones(1, 20)) * 0).sum().backward()
        penalty.add_gradients(None)
        optimizer.step()
        optimizer.zero_grad()
        sums.append(float(module.weight.detach().abs().sum()))
    assert all(later < earlier for earlier, later in pairwise(sums[:10]))
    assert float(module.weight.detach().abs().max()) <= 0.0101
