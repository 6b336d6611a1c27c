"""Which parameters share a rate and a decay."""

import pytest
import torch
from torch import Tensor, nn

from halftone.optim.config import OptimizerConfig
from halftone.optim.groups import Courses, group_parameters, torch_group


class Scale(nn.Module):
    """A layer scale as in ConvNeXt, and what transformers add to their activations."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.ones(8, 1, 1))
        self.temperature = nn.Parameter(torch.ones(()))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 17, 8))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(169, 4))
        self.mixing = nn.Parameter(torch.zeros(8, 8))


class GlobalNorm(nn.Module):
    """Somebody's own normalisation, with parameters of an unusual shape."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 8, 1, 1))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.layer_norm = nn.LayerNorm([8, 4, 4])
        self.own = GlobalNorm()
        self.scale = Scale()
        self.attention = nn.MultiheadAttention(8, 2)
        self.fc = nn.Linear(8, 3)
        self.fc_before = nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError


DECAYING = {"stem.weight", "scale.mixing", "attention.in_proj_weight", "attention.out_proj.weight", "fc_before.weight"}


def names(module: nn.Module, *, head: tuple[str, ...] = (), **settings: object) -> dict[str, tuple[str, bool, float]]:
    """Return for each grouped parameter its group, whether it decays, and the factor on its rate."""
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = group_parameters(module, OptimizerConfig(lr=0.1, l2=0.1, **settings), head=head)
    listed = [
        (by_id[id(parameter)], (group.name, group.decays, group.scale))
        for group in groups
        for parameter in group.parameters
    ]
    assert len({name for name, _ in listed}) == len(listed)
    return dict(listed)


def test_weights_decay_and_the_rest_is_exempt() -> None:
    found = names(Network())
    assert {name for name, (_, decays, _) in found.items() if decays} == DECAYING | {"fc.weight"}


def test_every_trainable_parameter_has_exactly_one_group() -> None:
    module = Network()
    module.stem.requires_grad_(False)
    module.norm.weight.requires_grad_(False)
    expected = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert names(module, head=("fc",)).keys() == expected


def test_shared_parameters_are_listed_once() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    assert set(names(module)) == {"0.weight", "0.bias", "1.bias"}


def test_the_head_has_a_rate_of_its_own() -> None:
    found = names(Network(), head=("fc",), head_lr=10.0)
    assert {name for name, (_, _, scale) in found.items() if scale == 10} == {"fc.weight", "fc.bias"}
    assert found["fc.weight"][0].startswith("head")
    assert found["fc_before.weight"][0] == "body"


def test_a_network_that_is_its_own_head() -> None:
    found = names(nn.Linear(4, 2), head=("",), head_lr=3.0)
    assert {scale for _, _, scale in found.values()} == {3.0}


def test_all_decays_where_it_was_asked_for() -> None:
    assert all(decays for _, decays, _ in names(Network(), decay_all=True).values())


def test_only_weights_of_hidden_layers_are_matrices_for_muon() -> None:
    module = Network()
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    for decay_all in (False, True):
        groups = group_parameters(module, OptimizerConfig(lr=1, l2=0, decay_all=decay_all), head=("fc",))
        chosen = {by_id[id(parameter)] for group in groups if group.matrices for parameter in group.parameters}
        assert chosen == DECAYING


@pytest.mark.parametrize("decays", [True, False])
def test_groups_for_torch(decays: bool) -> None:
    module = nn.Linear(3, 2, bias=False)
    group = group_parameters(module, OptimizerConfig(lr=1, l2=0, head_lr=4), head=("",))[0]
    made = torch_group(group, 0.5, 0.01, orthogonal=True)
    assert made == {
        "params": [module.weight],
        "lr": 2.0,
        "peak": 2.0,
        "lane": "",
        "weight_decay": 0.01,
        "decays": True,
        "orthogonal": True,
    }
    bias = nn.BatchNorm1d(2)
    exempt = group_parameters(bias, OptimizerConfig(lr=1, l2=0, decay_all=decays), head=())[0]
    assert torch_group(exempt, 0.5, 0.01)["weight_decay"] == (0.01 if decays else 0.0)


def test_factors_on_the_decay_of_single_layers() -> None:
    module = Network()
    config = OptimizerConfig(lr=0.1, l2=0.1)
    courses = Courses(decay_factors={"fc_before.weight": 0.5, "stem.weight": 0.0})
    groups = [torch_group(group, 0.1, 0.1) for group in group_parameters(module, config, head=("fc",), courses=courses)]
    decay = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
    assert decay[id(module.fc_before.weight)] == 0.05
    assert decay[id(module.stem.weight)] == 0
    assert decay[id(module.fc.weight)] == 0.1
    assert decay[id(module.fc.bias)] == 0
