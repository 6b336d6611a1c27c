"""Each optimizer against torch's own with the same constants, step by step."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.base.records import decided
from halftone.optim.build import build_optimizer, set_rates
from halftone.optim.config import OptimizerConfig

LR, L2 = 0.01, 0.1
NAMES = ["sgd", "adam", "adamw", "rmsprop", "nadam", "muon"]
TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=LR, momentum=0.8, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=LR, betas=(0.85, 0.98)),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=LR, betas=(0.85, 0.98)),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=LR, momentum=0.8),
    "nadam": lambda groups: torch.optim.NAdam(groups, lr=LR, betas=(0.85, 0.98), decoupled_weight_decay=True),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 2), nn.Flatten(), nn.Linear(6, 3)
    )


def settings(name: str, **changes: Any) -> OptimizerConfig:
    return OptimizerConfig(
        **{"name": name, "lr": LR, "l2": L2, "rest_lr": 0.003, "momentum": 0.8, "beta1": 0.85, "beta2": 0.98} | changes
    )


def train(module: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 8, first: int = 0) -> None:
    """Train on random pictures, the rate of each group changing from step to step."""
    peaks = [group.get("peak", group["lr"]) for group in optimizer.param_groups]
    for step in range(first, first + steps):
        random = torch.Generator().manual_seed(step)
        share = 1 - step / 20
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        images, labels = torch.randn(6, 3, 4, 4, generator=random), torch.randint(3, (6,), generator=random)
        F.cross_entropy(module(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("name", TORCH)
def test_equals_torch_step_by_step(name: str) -> None:
    ours = network()
    theirs = copy.deepcopy(ours)
    optimizer = build_optimizer(ours, settings(name, head_lr=3.0), head=("5",))
    body = {"params": [theirs[0].weight, theirs[3].weight], "weight_decay": L2}
    exempt = {"params": [*theirs[1].parameters(), theirs[3].bias], "weight_decay": 0}
    head = [{"params": [theirs[5].weight], "weight_decay": L2}, {"params": [theirs[5].bias], "weight_decay": 0}]
    other = TORCH[name]([body, exempt, *({**group, "lr": 3 * LR} for group in head)])
    for step in range(10):
        train(ours, optimizer, steps=1, first=step)
        train(theirs, other, steps=1, first=step)
        for group, peak in zip(other.param_groups, (LR, LR, 3 * LR, 3 * LR), strict=True):
            group["lr"] = peak
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("name", NAMES)
def test_is_fused_where_torch_has_that(name: str) -> None:
    optimizer = build_optimizer(network(), settings(name), head=())
    fused = {bool(group.get("fused")) for group in optimizer.param_groups}
    assert fused == {"sgd": {True}, "adam": {True}, "adamw": {True}, "muon": {True, False}}.get(name, {False})


def test_sgd_without_momentum() -> None:
    ours = network()
    theirs = copy.deepcopy(ours)
    train(ours, build_optimizer(ours, settings("sgd", momentum=0, l2=0), head=()))
    train(theirs, torch.optim.SGD(theirs.parameters(), lr=LR))
    torch.testing.assert_close(weights(ours), weights(theirs))


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_stay(name: str) -> None:
    module = network()
    module[0].requires_grad_(False)
    before = copy.deepcopy(module[0].state_dict())
    optimizer = build_optimizer(module, settings(name), head=("5",))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6
    train(module, optimizer)
    assert all(torch.equal(before[key], tensor) for key, tensor in module[0].state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_state_makes_the_round_trip_to_the_bit(name: str) -> None:
    """Eight steps and eight more equal sixteen, through a saved state and a new optimizer."""
    whole, first = network(), network()
    optimizer = build_optimizer(whole, settings(name), head=("5",))
    train(whole, optimizer, steps=16)
    before = build_optimizer(first, settings(name), head=("5",))
    train(first, before)
    second = copy.deepcopy(first)
    after = build_optimizer(second, settings(name), head=("5",))
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert [group["peak"] for group in after.param_groups] == [group["peak"] for group in before.param_groups]
    train(second, after, first=8)
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(second), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_rates_are_shares_of_their_peaks(name: str) -> None:
    config = settings(name, head_lr=5.0)
    optimizer = build_optimizer(network(), config, head=("5",))
    peaks = [group["lr"] for group in optimizer.param_groups]
    assert max(peaks) == pytest.approx(5 * decided(config.lr if name != "muon" else config.rest_lr))
    for share in (0.25, 0.0, 1.0):
        set_rates(optimizer, lambda lane, share=share: share)
        assert [group["lr"] for group in optimizer.param_groups] == [peak * share for peak in peaks]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_rates_on_the_device_are_the_same_to_the_bit(name: str) -> None:
    number, tensor = network(), network()
    optimizers = [build_optimizer(module, settings(name, head_lr=3.0), head=("5",)) for module in (number, tensor)]
    for step in range(6):
        share = 1 / (step + 3)
        set_rates(optimizers[0], lambda lane, share=share: share)
        set_rates(optimizers[1], lambda lane, share=share: torch.tensor(share, dtype=torch.float64))
        rates = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]
        assert rates[0] == rates[1]
        for module, optimizer in zip((number, tensor), optimizers, strict=True):
            random = torch.Generator().manual_seed(step)
            module(torch.randn(6, 3, 4, 4, generator=random)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(one, other) for one, other in zip(weights(number), weights(tensor), strict=True))


def test_an_undecided_setting_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="undecided"):
        build_optimizer(network(), OptimizerConfig(name="sgd", lr=0.1), head=())
