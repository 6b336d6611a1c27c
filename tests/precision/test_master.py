"""Half weights and their masters, with a plain loop as the oracle."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from small_networks import batches, everything, network, sgd, train_step
from torch import Tensor, nn

from halftone.precision.config import PrecisionConfig
from halftone.precision.formats import FORMATS
from halftone.precision.master import HalfWeights, halve, lost_share
from halftone.precision.verbs import Precision

DTYPES = {"bf16-true": torch.bfloat16, "fp16-true": torch.float16}


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def test_only_within_the_context_are_the_parameters_half() -> None:
    model = network()
    before = [id(parameter) for parameter in model.parameters()]
    full = dict.fromkeys(dtypes(model), torch.float32)
    halves = HalfWeights(model, torch.bfloat16)
    assert dtypes(model) == full
    with halves.in_place():
        assert dtypes(model) == full | dict.fromkeys(["0.weight", "5.weight", "5.bias"], torch.bfloat16)
    assert dtypes(model) == full
    with pytest.raises(KeyError), halves.in_place():
        raise KeyError
    assert dtypes(model) == full
    assert [id(parameter) for parameter in model.parameters()] == before


def test_norms_and_kept_layers_stay_in_fp32() -> None:
    model = network()
    halves = HalfWeights(model, torch.float16, keep=[model[5]])
    with halves.in_place():
        assert [name for name, dtype in dtypes(model).items() if dtype == torch.float16] == ["0.weight"]
        assert all(buffer.dtype in (torch.float32, torch.int64) for buffer in model.buffers())
    assert [id(master) for master in halves.masters] == [id(model[0].weight)]


def test_the_norms_of_others_stay_in_fp32() -> None:
    model = timm.create_model("mobilenetv3_small_050", num_classes=2)
    with HalfWeights(model, torch.bfloat16).in_place():
        found = dtypes(model)
    norms = {name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert len(norms) == 34
    kept = {name.rpartition(".")[0] for name, dtype in found.items() if dtype == torch.float32}
    assert kept == norms


def test_parameters_in_other_types_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2).double(), nn.Linear(2, 2))
    with HalfWeights(model, torch.bfloat16).in_place():
        assert dtypes(model[0]) == dict.fromkeys(["weight", "bias"], torch.float64)
        assert dtypes(model[1]) == dict.fromkeys(["weight", "bias"], torch.bfloat16)


def test_copies_are_the_rounded_masters_and_follow_them_after_each_step() -> None:
    model = network()
    halves = HalfWeights(model, torch.bfloat16)
    with torch.no_grad():
        for master in halves.masters:
            master.add_(torch.randn(master.shape))
    halves.refresh()
    rounded = [master.bfloat16() for master in halves.masters]
    assert all(map(torch.equal, halves.halves, rounded))
    with torch.no_grad():
        halves.masters[0].zero_()
    halves.refresh()  # within a step nothing is rounded twice
    assert torch.equal(halves.halves[0], rounded[0])
    halves.forget()
    halves.refresh()
    assert not halves.halves[0].any()


def test_requires_grad_follows_the_master() -> None:
    model = network()
    model[0].requires_grad_(False)
    precision = Precision("bf16-true", model, sgd(model))
    before = copy.deepcopy(model.state_dict())
    (images, labels), (more, others) = batches(2)
    train_step(precision, model, images, labels)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[5].weight, before["5.weight"])
    model[0].requires_grad_(True)
    model[5].requires_grad_(False)
    kept = model[5].weight.clone()
    train_step(precision, model, more, others)
    assert not torch.equal(model[0].weight, before["0.weight"])
    assert torch.equal(model[5].weight, kept)


def test_gradients_add_up_in_fp32_over_several_backward_passes() -> None:
    model = nn.Linear(1, 1, bias=False)
    precision = Precision("bf16-true", model, torch.optim.SGD(model.parameters(), lr=1.0))
    for value in (1.0, 2.0**-9, 2.0**-9, 2.0**-20):  # in bf16, none of these would move the first
        with precision.forward():
            loss = model(torch.tensor([[value]])).sum()
        precision.backward(loss)
        assert model.weight.grad is not None and model.weight.grad.dtype == torch.float32
    assert float(model.weight.grad) == 1.0 + 2 * 2.0**-9 + 2.0**-20


def test_gradients_that_are_there_already_are_added_to() -> None:
    model = nn.Linear(2, 1)
    halves = HalfWeights(model, torch.bfloat16)
    model.weight.grad = torch.full((1, 2), 0.25)
    halves.refresh()
    with halves.in_place():
        model(torch.ones(1, 2, dtype=torch.bfloat16)).sum().backward()
    halves.hand_over_gradients()
    assert model.weight.grad.tolist() == [[1.25, 1.25]]
    assert model.bias.grad.tolist() == [1.0]
    assert all(half.grad is None for half in halves.halves)


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    halves = HalfWeights(model, torch.bfloat16)
    assert len(halves.halves) == len(halves.masters) == 1
    halves.refresh()
    with halves.in_place():
        assert model[0].weight is model[1].weight
        model(torch.ones(1, 4, dtype=torch.bfloat16)).sum().backward()
    halves.hand_over_gradients()
    assert model[0].weight is model[1].weight
    inputs, rounded = torch.ones(1, 4, dtype=torch.bfloat16), model[0].weight.detach().bfloat16().requires_grad_()
    F.linear(F.linear(inputs, rounded), rounded).sum().backward()
    assert torch.equal(model[0].weight.grad, rounded.grad.float())


def half_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    other = copy.deepcopy(model)
    for layer in other.modules():
        if not isinstance(layer, nn.BatchNorm2d):
            for parameter in layer.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    return other


@pytest.mark.parametrize("mode", DTYPES)
def test_equals_a_plain_loop_with_half_copies_and_an_update_in_fp32_to_the_bit(mode: str) -> None:
    ours = network()
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = sgd(ours), sgd(theirs)
    scale = 1024.0 if mode == "fp16-true" else 1.0
    config = PrecisionConfig(mode=mode, scaling="auto" if scale == 1 else "static", scale=max(scale, 1))
    precision = Precision(config, ours, our_optimizer)
    torch.manual_seed(5)
    for images, labels in batches(12):
        assert train_step(precision, ours, images, labels)
    torch.manual_seed(5)
    for images, labels in batches(12):
        half = half_copy(theirs, DTYPES[mode])
        with torch.autocast("cpu", DTYPES[mode]):
            loss = F.cross_entropy(half(images), labels)
        (loss * scale).backward()
        for master, copied in zip(theirs.parameters(), half.parameters(), strict=True):
            master.grad = copied.grad.float() / scale
        for kept, moved in zip(theirs.buffers(), half.buffers(), strict=True):
            kept.copy_(moved)
        their_optimizer.step()
    assert everything(ours, our_optimizer) == everything(theirs, their_optimizer)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}


def test_a_skipped_step_leaves_masters_and_copies_as_they_were() -> None:
    model = network()
    optimizer = sgd(model)
    precision = Precision("bf16-true", model, optimizer)
    steps = list(batches(3))
    train_step(precision, model, *steps[0])
    before = everything(model, optimizer)
    assert not train_step(precision, model, steps[1][0] * float("inf"), steps[1][1])
    assert everything(model, optimizer) == before
    assert train_step(precision, model, *steps[2])
    assert everything(model, optimizer) != before


def test_halved_weights_are_half_for_good_but_norms_and_kept_layers() -> None:
    model = network()
    before = [id(parameter) for parameter in model.parameters()]
    values = model[0].weight.detach().clone()
    halve(model, torch.bfloat16, keep=[model[5]])
    found = {name for name, dtype in dtypes(model).items() if dtype == torch.bfloat16}
    assert found == {"0.weight"}
    assert torch.equal(model[0].weight, values.bfloat16())
    assert [id(parameter) for parameter in model.parameters()] == before  # an optimizer goes on with them


@pytest.mark.parametrize("master", [True, False])
def test_updates_below_half_a_unit_in_the_last_place_are_lost_without_masters(master: bool) -> None:
    held = FORMATS["bf16"]
    unit = 2.0**-held.mantissa_bits  # of numbers from one to two
    updates = torch.tensor([[unit, 0.51 * unit, 0.5 * unit, 0.49 * unit, 0.01 * unit, 0.0]])
    model = nn.Linear(6, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    precision = Precision(PrecisionConfig(mode="bf16-true", master=master), model, optimizer)
    assert model.weight.dtype == (torch.float32 if master else torch.bfloat16)
    before = model.weight.detach().clone()
    model.weight.grad = -updates.to(model.weight.dtype)
    precision.step()
    lost = lost_share([before], [model.weight.detach()], [updates])
    moved = (model.weight.detach().double() - 1).flatten().tolist()
    if master:
        assert lost == 0.0
        torch.testing.assert_close(torch.tensor(moved), updates[0], rtol=0, atol=1e-7)
    else:
        assert moved == [unit, unit, 0, 0, 0, 0]  # a tie goes to the even number, one
        assert lost == 3 / 5


def test_the_lost_share_is_over_all_weights_that_had_a_gradient() -> None:
    def one(*values: float) -> Tensor:
        return torch.tensor(values)

    before, after = [one(1, 2), one(3, 4, 5)], [one(1, 3), one(3, 4, 6)]
    assert lost_share(before, after, [one(1, 1), one(1, 0, 1)]) == 2 / 4
    assert lost_share(before, after, [one(0, 1), one(0, 0, 1)]) == 0.0
    assert lost_share(before, after, [one(0, 0), one(0, 0, 0)]) == 0.0


@pytest.mark.parametrize("mode", DTYPES)
def test_masters_learn_where_bare_half_weights_stand_still(mode: str) -> None:
    """Updates of a fortieth of a unit in the last place: with masters they add up over many steps."""
    held = FORMATS[mode.removesuffix("-true")]
    step = 2.0**-held.mantissa_bits / 40
    ends = {}
    for master in (True, False):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        config = PrecisionConfig(mode=mode, master=master, scaling="off")
        precision = Precision(config, model, torch.optim.SGD(model.parameters(), lr=step))
        for _ in range(80):
            with precision.forward():
                loss = -model(torch.ones(1, 1)).sum()
            precision.backward(loss)
            precision.step()
        ends[master] = model.weight.item()
    assert ends[False] == 1.0
    assert ends[True] == pytest.approx(1 + 80 * step, rel=1e-5)
