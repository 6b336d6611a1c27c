"""Watching a live step, with autograd itself as the oracle."""

import pytest
import torch
import torch.nn.functional as F
from small_networks import network
from torch import Tensor, nn

from halftone.precision.magnitudes import Magnitudes
from halftone.precision.watch import WHOLE, LayerNumbers, watched, working_layers


def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(8, 2, 4, 4, generator=random), torch.randint(3, (8,), generator=random)


def counted(*tensors: Tensor) -> Magnitudes:
    found = Magnitudes()
    for tensor in tensors:
        found.add(tensor)
    return found


def alike(found: Magnitudes, expected: Magnitudes) -> bool:
    numbers = [(part.zeros, part.not_finite, part.largest) for part in (found, expected)]
    return torch.equal(found.counts, expected.counts) and numbers[0] == numbers[1]


def test_working_layers_are_those_without_layers_inside_and_those_with_parameters_of_their_own() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))
            self.inner = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Identity())

    model = nn.Sequential(Block(), nn.ReLU(), nn.Flatten())
    assert list(working_layers(model)) == ["0", "0.inner.0", "1", "2"]
    assert working_layers(model)["0"] is model[0]
    assert working_layers(nn.Linear(2, 2)) == {}


def test_outputs_and_gradients_are_those_of_the_step() -> None:
    model = network().eval()  # without dropout, so that both passes are the same
    images, labels = data()
    with watched(model) as numbers:
        F.cross_entropy(model(images), labels).backward()
    weights = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    values, found = images, []
    for layer in model:
        values = layer(values)
        values.retain_grad()
        found.append(values)
    F.cross_entropy(values, labels).backward()
    assert list(numbers) == ["0", "1", "2", "3", "5", WHOLE]
    assert numbers.pop(WHOLE).output.total == 0  # what the network gives is what its last layer gave
    for name, layer_numbers in numbers.items():
        output = found[int(name)]
        assert alike(layer_numbers.output, counted(output))
        assert output.grad is not None
        assert alike(layer_numbers.gradient, counted(output.grad))
        own = [gradient for key, gradient in weights.items() if key.startswith(f"{name}.")]
        assert alike(layer_numbers.weight_gradient, counted(*own))


def test_steps_add_up_and_nothing_is_watched_afterwards() -> None:
    model = network()
    images, labels = data()
    totals = []
    for steps in (1, 3):
        with watched(model) as numbers:
            for _ in range(steps):
                F.cross_entropy(model(images), labels).backward()
        totals.append(numbers["0"].output.total)
    assert totals == [8 * 4 * 2 * 2, 3 * 8 * 4 * 2 * 2]
    before = numbers["0"].gradient.total
    F.cross_entropy(model(images), labels).backward()
    assert numbers["0"].output.total == totals[1]
    assert numbers["0"].gradient.total == before
    assert not any(layer._forward_hooks for layer in model.modules())


def test_hooks_are_removed_after_an_error() -> None:
    model = network()
    with pytest.raises(KeyError), watched(model):
        raise KeyError
    assert not any(layer._forward_hooks for layer in model.modules())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_frozen_layers_and_passes_without_gradients_have_outputs_only() -> None:
    model = network()
    model[0].requires_grad_(False)
    images, labels = data()
    with watched(model) as numbers:
        F.cross_entropy(model(images), labels).backward()
    assert numbers["0"].output.total == 128
    assert numbers["0"].gradient.total == numbers["0"].weight_gradient.total == 0
    assert numbers["5"].weight_gradient.total == 16 * 3 + 3
    with watched(model) as numbers, torch.no_grad():
        model(images)
    assert numbers["5"].output.total == 24
    assert numbers["5"].gradient.total == 0


def test_layers_that_give_several_outputs_or_whole_numbers() -> None:
    class Both(nn.Module):
        def forward(self, values: Tensor) -> tuple[Tensor, Tensor, None]:
            return values * 2, values.argmax(1), None

    model = nn.Sequential(Both())
    with watched(model) as numbers:
        model(torch.ones(3, 4, requires_grad=True))[0].sum().backward()
    assert numbers["0"].output.total == 12
    assert numbers["0"].gradient.total == 12


def test_watching_changes_no_bit_of_the_step() -> None:
    images, labels = data()
    results = []
    for watching in (True, False):
        model = network()
        torch.manual_seed(3)
        if watching:
            with watched(model):
                F.cross_entropy(model(images), labels).backward()
        else:
            F.cross_entropy(model(images), labels).backward()
        results.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *results))


def test_a_layer_that_never_ran_has_counted_nothing() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    with watched(model) as numbers:
        model["used"](torch.ones(1, 2)).sum().backward()
    assert numbers["used"].output.total == 2
    unused: LayerNumbers = numbers["unused"]
    assert (unused.output.total, unused.gradient.total, unused.weight_gradient.total) == (0, 0, 0)
