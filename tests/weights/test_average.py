"""The exponential moving average of the weights."""

import copy
from math import prod
from typing import Any

import pytest
import torch
from torch import nn

from halftone.weights.average import Average


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def wander(module: nn.Module, seed: int) -> None:
    """Change everything: weights, statistics, counters."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    module.train()(torch.rand(5, 3, dtype=next(module.parameters()).dtype))


def flat(state: dict[str, Any]) -> dict[str, Any]:
    return {**state["module"], "num_updates": torch.tensor(state["num_updates"])}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_the_average_is_the_closed_form(decay: float) -> None:
    """Each past weight counts by the share that it brought and what every later step kept of it."""
    module = network().double()
    average = Average(module, decay)
    history = [copy.deepcopy(module.state_dict())]
    for step in range(30):
        wander(module, step)
        average.update()
        history.append(copy.deepcopy(module.state_dict()))
    keep = [min(decay, (1 + step) / (10 + step)) for step in range(30)]
    brought = [1.0] + [1 - kept for kept in keep]
    shares = [share * prod(keep[past:]) for past, share in enumerate(brought)]
    assert sum(shares) == pytest.approx(1)
    for name, tensor in average.module.state_dict().items():
        if tensor.is_floating_point():
            expected = sum(share * state[name] for share, state in zip(shares, history, strict=True))
            torch.testing.assert_close(tensor, expected)
        else:
            assert torch.equal(tensor, module.state_dict()[name])


def test_the_start_is_forgotten_quickly() -> None:
    """(1 + t) / (10 + t) is below the decay at first: the rule of TensorFlow."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    average = Average(module, 0.9999)
    nn.init.zeros_(module.weight)
    left = 1.0
    for step in range(20):
        average.update()
        left *= (1 + step) / (10 + step)
        assert float(average.module.weight) == pytest.approx(left, rel=1e-5)
    assert left < 1e-6


def test_statistics_are_averaged_and_counters_copied() -> None:
    module = network()
    average = Average(module, 0.99)
    wander(module, 0)
    average.update()
    norm, own = module[1], average.module[1]
    assert own.num_batches_tracked == norm.num_batches_tracked == 1
    torch.testing.assert_close(own.running_mean, 0.9 * norm.running_mean)


def test_the_average_is_apart_and_asks_for_no_gradients() -> None:
    module = network().train()
    average = Average(module, 0.5)
    assert not average.module.training
    assert module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    before = average.module[0].weight.clone()
    wander(module, 1)
    assert torch.equal(average.module[0].weight, before)


def test_weights_that_are_shared_are_averaged_once() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    average = Average(module, 0.9)
    start = module["a"].weight.detach().clone()
    with torch.no_grad():
        module["a"].weight.add_(1.0)
    average.update()
    assert average.module["b"].weight is average.module["a"].weight
    torch.testing.assert_close(average.module["a"].weight, start + 0.9)


def test_numbers_of_several_kinds_and_layouts() -> None:
    module = nn.ModuleDict(
        {"short": nn.Linear(2, 2).bfloat16(), "long": nn.Linear(2, 2).double(), "conv": nn.Conv2d(3, 4, 3)}
    )
    module["conv"].to(memory_format=torch.channels_last)
    module.register_buffer("mask", torch.tensor([True, False]))
    average = Average(module, 0.5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(3.0)
    module.mask.logical_not_()
    for _ in range(200):
        average.update()
    for name, tensor in average.module.state_dict().items():
        torch.testing.assert_close(tensor, module.state_dict()[name], rtol=0.02, atol=0.02, check_dtype=False)
        wanted = module.state_dict()[name].dtype
        assert tensor.dtype == (torch.float32 if wanted == torch.bfloat16 else wanted)
    assert average.module["conv"].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_saved_average_goes_on_as_if_never_saved(stop: int) -> None:
    torch.manual_seed(9)
    module = network()
    twin = copy.deepcopy(module)
    whole = Average(module, 0.9)
    for step in range(10):
        wander(module, step)
        whole.update()
    first = Average(twin, 0.9)
    for step in range(stop):
        wander(twin, step)
        first.update()
    saved = copy.deepcopy(first.state_dict())
    second = Average(twin, 0.9)
    second.load_state_dict(saved)
    for step in range(stop, 10):
        wander(twin, step)
        second.update()
    one, other = flat(whole.state_dict()), flat(second.state_dict())
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def everything(average: Average) -> list[bytes]:
    tensors = (tensor.reshape(-1).view(torch.uint8) for tensor in average.module.state_dict().values())
    return [*(tensor.numpy().tobytes() for tensor in tensors), str(average.num_updates).encode()]


def mixed() -> nn.Module:
    """Numbers of several kinds and layouts, a counter, a shared weight."""
    module = nn.ModuleDict({"net": network(), "brief": nn.Linear(3, 3).bfloat16(), "long": nn.Linear(2, 2).double()})
    module["short"] = nn.Linear(2, 5).half()
    module["conv"] = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    module["twin"] = nn.Linear(2, 2).double()
    module["twin"].weight = module["long"].weight
    return module


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.999])
@pytest.mark.parametrize("portion", [2**24, 20, 1])
def test_the_device_decides_as_the_host_does_to_the_bit(
    decay: float, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In portions of any size; the share of a step is below and above a half."""
    monkeypatch.setattr("halftone.weights.average._PORTION", portion)
    torch.manual_seed(0)
    module = mixed()
    host, device = Average(module, decay), Average(module, decay)
    for step in range(24):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module["net"].train()(torch.rand(5, 3))
        good = step % 3 != 0
        host.update(good)
        device.update(torch.tensor(good))
        assert everything(host) == everything(device)
    assert host.num_updates == device.num_updates == 16


def test_a_step_that_was_not_applied_changes_no_bit() -> None:
    """Not even the sign of a zero, and whatever the network holds."""
    module = mixed()
    average = Average(module, 0.9)
    with torch.no_grad():
        for tensor in average.module.parameters():
            tensor[..., 0] = -0.0
        for tensor in module.parameters():
            tensor.fill_(float("nan"))
    module["net"][1].num_batches_tracked += 7
    before = everything(average)
    average.update(False)
    average.update(torch.tensor(False))
    assert everything(average) == before


def test_a_count_on_the_device_is_saved_as_a_number_and_goes_on_from_one() -> None:
    module = network()
    first, second = Average(module, 0.99), Average(module, 0.99)
    for _ in range(3):
        first.update(torch.tensor(True))
    state = first.state_dict()
    assert state["num_updates"] == 3
    assert type(state["num_updates"]) is int
    second.load_state_dict(state)
    wander(module, 1)
    first.update(torch.tensor(True))
    second.update(True)
    assert everything(first) == everything(second)
