"""Muon against torch's Muon and AdamW, and against the singular value decomposition."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.optim import muon
from halftone.optim.build import build_optimizer
from halftone.optim.config import OptimizerConfig
from halftone.optim.muon import Muon, orthogonalise


def follow(parameters: list[Tensor], optimizer: torch.optim.Optimizer, *, steps: int = 6) -> None:
    """Take steps along gradients that follow from the step and the place in the list."""
    for step in range(steps):
        for place, parameter in enumerate(parameters):
            random = torch.Generator().manual_seed(100 * step + place)
            flat = torch.randn(parameter.numel(), generator=random)
            parameter.grad = flat.reshape(parameter.shape) + 0.1 * parameter.detach()
        optimizer.step()


def copies(*shapes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    return ours, copy.deepcopy(ours)


@pytest.fixture
def _in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterate in bf16 as torch does, also where the processor has to emulate it and we would not."""
    monkeypatch.setattr(muon, "_multiplies_bf16", lambda device: True)


@pytest.mark.usefixtures("_in_bf16")
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.95])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_on_matrices_it_is_torch_muon_to_the_bit(momentum: float, decay: float) -> None:
    """With `adjust_lr_fn="match_rms_adamw"`, and torch's defaults: Nesterov, five iterations."""
    ours, theirs = copies((6, 9), (9, 6), (5, 5), (1, 7))
    groups = [{"params": ours, "lr": 0.02, "weight_decay": decay, "orthogonal": True}]
    follow(ours, Muon(groups, momentum=momentum, betas=(0.9, 0.999)))
    other = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=decay, momentum=momentum, adjust_lr_fn="match_rms_adamw", nesterov=True
    )
    follow(theirs, other)
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("fused", [True, None])
def test_the_rest_is_torch_adamw_to_the_bit(fused: bool | None) -> None:
    ours, theirs = copies((7,), (4, 3, 2, 2), (1,))
    groups = [{"params": ours, "lr": 0.02, "weight_decay": 0.1, "orthogonal": False, "fused": fused}]
    follow(ours, Muon(groups, momentum=0.9, betas=(0.8, 0.95)))
    follow(theirs, torch.optim.AdamW(theirs, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1, fused=fused))
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


@pytest.mark.usefixtures("_in_bf16")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_filters_are_flattened_to_matrices(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    filters = torch.randn(8, 4, 3, 3)
    matrix = filters.reshape(8, 36).clone().requires_grad_()
    filters = filters.to(memory_format=layout).requires_grad_()
    group = {"params": [filters], "lr": 0.02, "weight_decay": 0.1}
    follow([filters], Muon([group], momentum=0.9, betas=(0.9, 0.999)))
    other = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    follow([matrix], other)
    torch.testing.assert_close(filters.detach().reshape(8, 36), matrix.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonalise_keeps_directions_and_levels_singular_values(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=dtype)
    result = orthogonalise(matrix)
    assert (result.shape, result.dtype) == (matrix.shape, dtype)
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    turned = u.T @ result.double() @ v.T
    levels = turned.diag()
    assert ((levels > 0.5) & (levels < 1.35)).all()
    assert (turned - levels.diag()).abs().max() < (1e-9 if dtype == torch.float64 else 0.1)


def test_orthogonalise_does_not_depend_on_the_size_and_bears_zero() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(5, 8)
    torch.testing.assert_close(orthogonalise(matrix * 1024), orthogonalise(matrix))
    assert torch.equal(orthogonalise(torch.zeros(5, 8)), torch.zeros(5, 8))


def test_what_is_a_matrix() -> None:
    """Filters on pixels, single channels, norms, biases and the head go to AdamW."""
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1), nn.Linear(4, 3)
    )
    config = OptimizerConfig(name="muon", lr=0.02, l2=0.1, rest_lr=0.006, head_lr=2.0)
    optimizer = build_optimizer(module, config, head=("4",))
    orthogonal = [group for group in optimizer.param_groups if group["orthogonal"]]
    others = [group for group in optimizer.param_groups if not group["orthogonal"]]
    assert [parameter for group in orthogonal for parameter in group["params"]] == [module[3].weight]
    assert [group["lr"] for group in orthogonal] == [0.02]
    assert sorted({group["lr"] for group in others}) == pytest.approx([0.006, 0.012])
    assert sum(len(group["params"]) for group in others) == 9
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(module[place].weight) for place in (0, 2, 3, 4)}


def test_parameters_without_a_gradient_are_left_alone() -> None:
    ours, before = copies((4, 5), (3,))
    groups = [
        {"params": ours[:1], "lr": 1.0, "weight_decay": 0.5},
        {"params": ours[1:], "lr": 1.0, "weight_decay": 0.5, "orthogonal": False},
    ]
    optimizer = Muon(groups, momentum=0.9, betas=(0.9, 0.999))
    optimizer.step()
    assert all(torch.equal(mine, its) for mine, its in zip(ours, before, strict=True))
    assert not optimizer.state


def test_it_takes_no_closure() -> None:
    optimizer = Muon([{"params": [torch.zeros(2, 2, requires_grad=True)]}], momentum=0.9, betas=(0.9, 0.999))
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: None)


def take_flagged_steps(
    ours: list[torch.Tensor],
    theirs: list[torch.Tensor],
    optimizers: list[Muon],
    bad: tuple[int, ...],
    *,
    as_tensor: bool,
) -> None:
    """Take five steps with falling rates; ours are asked for the bad ones, too, with a flag, theirs are not."""
    for step in range(5):
        for mine, its in zip(ours, theirs, strict=True):
            its.grad = torch.randn(its.shape)
            mine.grad = torch.full_like(its, math.nan) if step in bad else its.grad.clone()
        for group, other in zip(*(optimizer.param_groups for optimizer in optimizers), strict=True):
            rate = other["lr"] * 0.9
            other["lr"], group["lr"] = rate, torch.tensor(rate, dtype=torch.float64) if as_tensor else rate
        optimizers[0].found_inf = torch.tensor(float(step in bad))
        optimizers[0].step()
        if step not in bad:
            optimizers[1].step()


@pytest.mark.parametrize("bad", [(), (0,), (2, 3)])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_a_flag_leaves_everything_as_it_was_to_the_bit(bad: tuple[int, ...], as_tensor: bool) -> None:
    """As if the step had not been asked for; the rates may be numbers or lie on the device."""
    torch.manual_seed(0)
    ours = [torch.randn(shape, requires_grad=True) for shape in ((6, 9), (8, 4, 3, 3), (7,))]
    theirs = copy.deepcopy(ours)
    optimizers = []
    for parameters in (ours, theirs):
        groups = [
            {"params": parameters[:2], "lr": 0.02, "weight_decay": 0.1},
            {"params": parameters[2:], "lr": 0.01, "weight_decay": 0.1, "orthogonal": False, "fused": True},
        ]
        optimizers.append(Muon(groups, momentum=0.9, betas=(0.9, 0.999)))
    take_flagged_steps(ours, theirs, optimizers, bad, as_tensor=as_tensor)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.detach().numpy().tobytes() == its.detach().numpy().tobytes()
        states = [optimizer.state[tensor] for optimizer, tensor in zip(optimizers, (mine, its), strict=True)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_it_takes_a_flag_where_its_adamw_is_fused() -> None:
    matrix, vector = torch.zeros(4, 4, requires_grad=True), torch.zeros(3, requires_grad=True)
    for fused in (True, None):
        groups = [{"params": [matrix]}, {"params": [vector], "orthogonal": False, "fused": fused}]
        assert Muon(groups, momentum=0.9, betas=(0.9, 0.999)).takes_found_inf == bool(fused)


def test_rates_on_the_device_move_weights_in_half_as_finely() -> None:
    """The size of a step is not rounded to the format of the weights."""
    moved = []
    for rate in (0.0123, torch.tensor(0.0123)):
        weight = torch.zeros(4, 4, dtype=torch.bfloat16, requires_grad=True)
        weight.grad = torch.eye(4, dtype=torch.bfloat16)
        Muon([{"params": [weight], "lr": rate}], momentum=0.0, betas=(0.9, 0.999)).step()
        moved.append(weight.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=2**-8, atol=0)


@pytest.mark.usefixtures("_in_bf16")
@pytest.mark.parametrize("iterations", [3, 5])
def test_the_spectral_size_is_torch_muons_original_to_the_bit(iterations: int) -> None:
    ours, theirs = copies((6, 9), (9, 6), (5, 5))
    group = {"params": ours, "lr": 0.02, "weight_decay": 0.1, "iterations": iterations, "update_size": "spectral"}
    follow(ours, Muon([group], momentum=0.6, betas=(0.9, 0.999)))
    other = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.6, ns_steps=iterations, adjust_lr_fn="original", nesterov=True
    )
    follow(theirs, other)
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


def test_normalised_weights_start_each_update_at_the_root_of_their_rows() -> None:
    """The update of a filter that was scaled first is that of a filter of that size, whatever size it had."""
    ours, theirs = copies((6, 4, 3, 3), (9, 7))
    with torch.no_grad():
        for mine, its in zip(ours, theirs, strict=True):
            its.mul_(len(its) ** 0.5 / its.norm())
            mine.copy_(its * 5)
    gradients = [torch.randn_like(its) for its in theirs]
    for parameters, normalise in ((ours, True), (theirs, False)):
        group = {"params": parameters, "lr": 0.02, "normalise": normalise, "update_size": "spectral"}
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        Muon([group], momentum=0.6, betas=(0.9, 0.999)).step()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [True, None])
@pytest.mark.parametrize("momentum", [0.0, 0.85])
def test_the_rest_may_be_torch_sgd_to_the_bit(fused: bool | None, momentum: float) -> None:
    ours, theirs = copies((7,), (4, 3, 2, 2), (1,))
    group = {"params": ours, "lr": 0.02, "weight_decay": 0.1, "momentum": momentum}
    follow(ours, Muon([{**group, "orthogonal": False, "rest": "sgd", "fused": fused}], momentum=0.6, betas=(0.9, 0.9)))
    nesterov = momentum > 0
    follow(
        theirs, torch.optim.SGD(theirs, lr=0.02, weight_decay=0.1, momentum=momentum, nesterov=nesterov, fused=fused)
    )
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("bad", [(0,), (1, 3)])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_a_flag_leaves_a_rest_by_sgd_as_it_was_to_the_bit(bad: tuple[int, ...], as_tensor: bool) -> None:
    ours, theirs = copies((7,), (6, 9))
    groups = {"lr": 0.02, "weight_decay": 0.1, "normalise": True}
    optimizers = []
    for vector, matrix in (ours, theirs):
        rest = {"params": [vector], "lr": 0.1, "orthogonal": False, "rest": "sgd", "fused": True}
        optimizers.append(Muon([{"params": [matrix], **groups}, rest], momentum=0.9, betas=(0.9, 0.999)))
    assert optimizers[0].takes_found_inf
    take_flagged_steps(ours, theirs, optimizers, bad, as_tensor=as_tensor)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.detach().numpy().tobytes() == its.detach().numpy().tobytes()


def test_what_belongs_to_muon_is_refused_elsewhere() -> None:
    for settings, said in (
        ({"name": "sgd", "iterations": 3}, "iterations = 3 is for optimizer.name = muon, not sgd"),
        ({"name": "adamw", "rest": "sgd"}, "rest = sgd is for optimizer.name = muon"),
        ({"name": "muon", "rest_momentum": 0.8}, "rest_momentum = 0.8 is for rest = sgd, not adamw"),
        ({"name": "muon", "update_size": "spectral"}, "lr = auto is for updates of the size rms"),
    ):
        with pytest.raises(RecipeError, match=said):
            OptimizerConfig.parse(settings)
    config = OptimizerConfig(name="muon", lr=0.2, l2=0.1, rest_lr=3.0, rest="sgd", rest_momentum=0.8, momentum=0.6)
    optimizer = build_optimizer(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), config, head=("1",))
    found = {(group["orthogonal"], group["momentum"], group["rest"]) for group in optimizer.param_groups}
    assert found == {(True, 0.6, "adamw"), (False, 0.8, "sgd")}
