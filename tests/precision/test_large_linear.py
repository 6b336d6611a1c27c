"""Large linear layers under autocast: the bits of torch's own, with less memory."""

import copy

import pytest
import torch
from torch import Tensor, nn

from halftone.precision import large_linear
from halftone.precision.large_linear import spare_memory
from halftone.precision.verbs import Precision


@pytest.fixture(autouse=True)
def _small_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_linear, "LARGE", 1 << 12)
    monkeypatch.setattr(large_linear, "_BLOCK", 48 * 30)  # several blocks, the last one smaller


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 160), nn.ReLU(), nn.Linear(160, 101), nn.ReLU(), nn.Linear(101, 5, bias=False))


def gradients(model: nn.Module, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    inputs = inputs.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(inputs).float().square().mean()
    loss.backward()
    assert inputs.grad is not None
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss.detach(), [inputs.grad, *found]


@pytest.mark.parametrize("shape", [(8, 48), (3, 7, 48)])
def test_loss_and_gradients_are_those_of_torch_to_the_bit(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    plain, spared = network(), network()
    spare_memory(spared)
    assert ["forward" in layer.__dict__ for layer in spared] == [True, False, True, False, False]
    (loss, wanted), (ours, found) = gradients(plain, inputs), gradients(spared, inputs)
    assert torch.equal(ours, loss)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and one.is_contiguous() and torch.equal(one, other)


def test_frozen_weights_get_no_gradient() -> None:
    spared = network()
    spared[2].weight.requires_grad_(False)
    spare_memory(spared)
    _, found = gradients(spared, torch.randn(4, 48))
    assert spared[2].weight.grad is None and len(found) == 5


def test_a_kept_graph_is_passed_twice() -> None:
    spared, inputs = network(), torch.randn(4, 48)
    spare_memory(spared)
    with torch.autocast("cpu", torch.bfloat16):
        loss = spared(inputs).float().square().mean()
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in spared.parameters()]  # type: ignore[union-attr]
    loss.backward()
    for parameter, first in zip(spared.parameters(), once, strict=True):
        assert torch.equal(parameter.grad, 2 * first)  # type: ignore[arg-type]


def test_without_autocast_in_evaluation_and_in_copies_it_is_an_ordinary_layer() -> None:
    plain, spared, inputs = network(), network(), torch.randn(4, 48)
    spare_memory(spared)
    copied = copy.deepcopy(spared)
    assert torch.equal(spared(inputs), plain(inputs))
    assert copied[0].forward.__self__ is copied[0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copied(inputs), plain(inputs))


def test_training_in_bf16_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for large in (1 << 12, 1 << 30):
        monkeypatch.setattr(large_linear, "LARGE", large)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        precision = Precision("bf16", model, optimizer)
        assert ("forward" in model[0].__dict__) == (large == 1 << 12)
        for step in range(4):
            inputs = torch.randn(8, 48, generator=torch.Generator().manual_seed(step))
            with precision.forward():
                loss = nn.functional.cross_entropy(model(inputs), torch.arange(8) % 5)
            precision.backward(loss)
            precision.step()
        ends.append([parameter.detach() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


@pytest.mark.parametrize("mode", ["fp32", "bf16-true"])
def test_other_modes_leave_the_layers_alone(mode: str) -> None:
    model = network()
    Precision(mode, model, torch.optim.SGD(model.parameters(), lr=0.1))  # type: ignore[arg-type]
    assert not any("forward" in layer.__dict__ for layer in model)
