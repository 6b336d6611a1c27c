"""Layers that stand still."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from halftone.base.errors import RecipeError
from halftone.base.lengths import Span
from halftone.models.build import build_model
from halftone.weights.config import WeightsConfig
from halftone.weights.freeze import Freezing, freeze, plan_halts, plan_thaws


def network(*, affine: bool = True) -> nn.Sequential:
    def block(inputs: int) -> nn.Sequential:
        return nn.Sequential(
            OrderedDict(conv=nn.Conv2d(inputs, 4, 3, padding=1), norm=nn.BatchNorm2d(4, affine=affine), act=nn.ReLU())
        )

    return nn.Sequential(
        OrderedDict(
            stem=block(3),
            body=nn.Sequential(block(4), block(4)),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(4, 2),
        )
    )


def standing(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def named(module: nn.Module, layers: list[nn.Module]) -> set[str]:
    return {name for name, layer in module.named_modules() if layer in layers}


ALL = {name for name, _ in network().named_parameters()}


@pytest.mark.parametrize(
    ("patterns", "frozen", "norms"),
    [
        ((), set(), set()),
        (("backbone",), ALL - {"head.weight", "head.bias"}, {"stem.norm", "body.0.norm", "body.1.norm"}),
        (("stem",), {name for name in ALL if name.startswith("stem.")}, {"stem.norm"}),
        (("stem*",), {name for name in ALL if name.startswith("stem.")}, {"stem.norm"}),
        (("body.0.*",), {name for name in ALL if name.startswith("body.0.")}, {"body.0.norm"}),
        (("body.?.norm",), {n for n in ALL if n.startswith("body.") and ".norm." in n}, {"body.0.norm", "body.1.norm"}),
        (
            ("*.norm.weight", "*.norm.bias"),
            {n for n in ALL if ".norm." in n},
            {"stem.norm", "body.0.norm", "body.1.norm"},
        ),
        (("*.bias",), {name for name in ALL if name.endswith(".bias")}, set()),
        (("stem.conv", "head.bias"), {"stem.conv.weight", "stem.conv.bias", "head.bias"}, set()),
        (("head",), {"head.weight", "head.bias"}, set()),
    ],
)
def test_patterns(patterns: tuple[str, ...], frozen: set[str], norms: set[str]) -> None:
    module = network()
    assert set(freeze(module, patterns, head=("head",))) == frozen
    assert standing(module) == frozen
    assert named(module, Freezing(module).norms) == norms


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("stam", "'stem'"),
        ("body.9", "'body."),
        ("zzz", "use 'backbone', or a pattern over layers such as 'stem*'"),
        ("", "backbone"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_frozen(pattern: str, hint: str) -> None:
    module = network()
    with pytest.raises(RecipeError, match=f"weights.freeze = '{pattern}' matches no parameter") as caught:
        freeze(module, ("stem", pattern), head=("head",))
    assert hint in caught.value.hint
    assert standing(module) == set()


@pytest.mark.parametrize(
    ("patterns", "head", "hint"),
    [
        (("*",), ("head",), "backbone"),
        (("backbone", "head"), ("head",), "backbone"),
        (("backbone",), (), "name the layers"),
    ],
)
def test_something_must_be_left_to_train(patterns: tuple[str, ...], head: tuple[str, ...], hint: str) -> None:
    module = network()
    with pytest.raises(RecipeError, match="leaves nothing to train") as caught:
        freeze(module, patterns, head=head)
    assert hint in caught.value.hint
    assert standing(module) == set()


def test_a_network_that_is_one_layer() -> None:
    with pytest.raises(RecipeError, match="matches no parameter") as caught:
        freeze(nn.Linear(2, 2), ("stem",), head=())
    assert caught.value.hint == "use 'backbone'"


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("patterns", [("backbone",), ("stem", "body")])
def test_frozen_layers_stand_still_in_training(patterns: tuple[str, ...], affine: bool) -> None:
    """Parameters and running statistics, also of norms that have no parameters."""
    torch.manual_seed(0)
    module = network(affine=affine)
    freeze(module, patterns, head=("head",))
    freezing = Freezing(module)
    assert len(freezing.norms) == 3
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        module.train()
        freezing.hold_still()
        loss = nn.functional.cross_entropy(module(torch.rand(4, 3, 6, 6) * 9), torch.tensor([0, 1, 0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = module.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert module.get_submodule("body").training


def test_norms_that_are_trained_go_on_counting() -> None:
    module = network()
    freeze(module, ("stem",), head=("head",))
    module.train()
    Freezing(module).hold_still()
    module(torch.rand(4, 3, 6, 6))
    assert module.get_submodule("stem.norm").num_batches_tracked == 0
    assert module.get_submodule("body.0.norm").num_batches_tracked == 1


def test_a_norm_without_parameters_goes_with_what_it_follows() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1), nn.Flatten())
    freeze(flat, ("0",), head=("2",))
    assert Freezing(flat).norms == [flat[1]]


STAGES = {"stem": ("stem",), "body.0": ("body.0",), "body.1": ("body.1",)}


def test_the_first_stages_by_their_number() -> None:
    module = network()
    freeze(module, ("2",), head=("head",), stages=list(STAGES.values()))
    assert standing(module) == {name for name in ALL if name.startswith(("stem.", "body.0."))}
    with pytest.raises(RecipeError, match="'0' matches no parameter") as caught:
        freeze(module, ("0",), head=("head",), stages=list(STAGES.values()))
    assert caught.value.hint == "the network has 3 stages before its head"


def test_stages_thaw_from_the_head_down() -> None:
    module = network()
    frozen = freeze(module, ("backbone",), head=("head",))
    thaws = plan_thaws(frozen, Span(2, "ep"), stages=STAGES, steps=lambda span: int(span.amount) * 10)
    assert [(thaw.name, thaw.step) for thaw in thaws] == [("body.1", 20), ("body.0", 40), ("stem", 60)]
    freezing = Freezing(module, thaws)
    module.train()
    freezing.hold_still()
    assert freezing.next_step == 20
    assert freezing.thaw(19) == []
    assert [thaw.name for thaw in freezing.thaw(40)] == ["body.1", "body.0"]
    assert standing(module) == {name for name in ALL if name.startswith("stem.")}
    assert named(module, freezing.norms) == {"stem.norm"}
    assert module.get_submodule("body.0.norm").training
    freezing.thaw(60)
    assert (standing(module), freezing.norms, freezing.next_step) == (set(), [], float("inf"))


def test_layers_thaw_by_pattern_each_once() -> None:
    module = network()
    frozen = freeze(module, ("stem", "body"), head=("head",))
    wish = {"body": Span(3, "it"), "body.1": Span(1, "it")}
    thaws = plan_thaws(frozen, wish, stages=STAGES, steps=lambda span: int(span.amount))
    assert [(thaw.name, thaw.step) for thaw in thaws] == [("body.1", 1), ("body", 3)]
    assert all(name.startswith("body.0.") for name in thaws[1].parameters)
    for pattern, hint in (("boddy", "body"), ("head", "the stages are stem, body.0, body.1")):
        with pytest.raises(RecipeError, match=f"'{pattern}' matches no frozen parameter") as caught:
            plan_thaws(frozen, {pattern: Span(1, "it")}, stages=STAGES, steps=lambda span: 1)
        assert hint in caught.value.hint


def test_backbone_of_a_network_with_two_outputs() -> None:
    with torch.device("meta"):
        built = build_model("inception_v3", num_classes=5, channels=3, size=299, dropout=None)
    freeze(built.module, ("backbone",), head=built.head)
    free = {name for name, parameter in built.module.named_parameters() if parameter.requires_grad}
    assert free == {"fc.weight", "fc.bias", "AuxLogits.fc.weight", "AuxLogits.fc.bias"}


@pytest.mark.parametrize(
    ("value", "patterns"),
    [
        ("features.0.*,stem*", ("features.0.*", "stem*")),
        ("backbone", ("backbone",)),
        ("none", ()),
        ("off", ()),
        ("", ()),
        (None, ()),
        (False, ()),
        (["a", "b"], ("a", "b")),
    ],
)
def test_patterns_as_they_are_written(value: object, patterns: tuple[str, ...]) -> None:
    assert WeightsConfig.parse({"freeze": value}).freeze == patterns


def test_one_origin_only() -> None:
    with pytest.raises(RecipeError, match=r"choose one of weights.file and pretrained"):
        WeightsConfig.parse({"file": "a.pt", "pretrained": True})


def steps_of(span: Span) -> int:
    return int(span.amount)


def test_layers_halt_by_pattern_and_their_norms_with_them() -> None:
    module = network()
    freeze(module, ("stem.norm",), head=("head",))
    halts = plan_halts(
        module, {"body": Span(5, "it"), "stem": Span(3, "it"), "body.1": Span(4, "it")}, (), steps=steps_of
    )
    assert [(halt.name, halt.step) for halt in halts] == [("stem", 3), ("body.1", 4), ("body", 5)]
    assert all(name.startswith("body.0.") for name in halts[2].parameters)
    freezing = Freezing(module, halts=halts)
    module.train()
    freezing.hold_still()
    assert (freezing.next_step, freezing.halt(2)) == (3, [])
    assert [halt.name for halt in freezing.halt(4)] == ["stem", "body.1"]
    assert standing(module) == {name for name in ALL if name.startswith(("stem.", "body.1."))}
    assert named(module, freezing.norms) == {"stem.norm", "body.1.norm"}
    assert not module.get_submodule("body.1.norm").training
    assert module.get_submodule("body.0.norm").training
    freezing.halt(5)
    assert freezing.next_step == float("inf")
    assert standing(module) == {name for name in ALL if not name.startswith("head.")}


def test_what_cannot_halt_is_refused() -> None:
    module = network()
    frozen = freeze(module, ("stem",), head=("head",))
    thaws = plan_thaws(frozen, {"stem": Span(4, "it")}, stages=STAGES, steps=steps_of)
    assert [halt.step for halt in plan_halts(module, {"stem": Span(6, "it")}, thaws, steps=steps_of)] == [6]
    for wish, said in (
        ({"stm": Span(6, "it")}, "'stm' matches no parameter that trains"),
        ({"stem": Span(4, "it")}, "would stop in step 4, before it trains"),
        ({"body": Span(0, "it")}, "would stop in step 0, before it trains"),
        ({"*": Span(9, "it")}, "leaves nothing to train"),
    ):
        with pytest.raises(RecipeError, match=said):
            plan_halts(module, wish, thaws, steps=steps_of)
    with pytest.raises(RecipeError, match="matches no parameter that trains"):
        plan_halts(module, {"stem": Span(6, "it")}, (), steps=steps_of)
