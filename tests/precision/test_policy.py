"""Layers with a format of their own, on networks of others and on small ones."""

import copy
from collections import Counter
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.precision.policy import (
    KINDS,
    apply_policy,
    clear_policy,
    is_norm,
    kind_of,
    loss_dtype,
    own_format,
    settle_layers,
    within,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def small() -> nn.Sequential:
    """A network for pictures [batch, 3, 8, 8]."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Flatten(),
        nn.Linear(216, 4),
    )


def given_and_got(layer: nn.Module, run: Any) -> tuple[list[torch.dtype], list[torch.dtype]]:
    """The types that a layer's own arithmetic is given, and that it hands on, while something runs."""
    given: list[torch.dtype] = []
    got: list[torch.dtype] = []
    plain = type(layer).forward

    class Watched(type(layer)):  # type: ignore[misc]
        def forward(self, *inputs: Any, **named: Any) -> Any:
            given.extend(value.dtype for value in (*inputs, *named.values()) if isinstance(value, Tensor))
            return plain(self, *inputs, **named)

    layer.__class__ = Watched
    with layer.register_forward_hook(lambda _, __, output: got.append(output.dtype)):
        run()
    layer.__class__ = Watched.__bases__[0]
    return given, got


@pytest.mark.parametrize(
    ("network", "counts"),
    [
        (
            torchvision.models.mobilenet_v2,
            {"convolution": 35, "depthwise": 17, "norm": 52, "activation": 35, "linear": 1},
        ),
        (torchvision.models.resnet18, {"convolution": 20, "norm": 20, "activation": 9, "linear": 1}),
        (torchvision.models.squeezenet1_1, {"convolution": 26, "activation": 26}),
    ],
)
def test_kinds_in_networks_of_torchvision(network: Any, counts: dict[str, int]) -> None:
    with torch.device("meta"):
        model = network()
    assert Counter(filter(None, map(kind_of, model.modules()))) == counts


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("vit_tiny_patch16_224", {"convolution": 1, "attention": 12, "norm": 25, "activation": 12, "linear": 49}),
        ("convnext_atto", {"convolution": 28, "depthwise": 12, "norm": 17, "activation": 12, "linear": 1}),
        ("efficientnet_b0", {"convolution": 65, "depthwise": 16, "norm": 49, "activation": 65, "linear": 1}),
        ("mobilenetv3_small_050", {"convolution": 42, "depthwise": 11, "norm": 34, "activation": 42, "linear": 1}),
    ],
)
def test_kinds_in_networks_of_timm(name: str, counts: dict[str, int]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    assert Counter(filter(None, map(kind_of, model.modules()))) == counts


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv1d(4, 8, 3, groups=4), "depthwise"),
        (nn.Conv2d(4, 4, 3, groups=2), "convolution"),
        (nn.Conv2d(1, 4, 3, groups=1), "convolution"),
        (nn.ConvTranspose2d(4, 4, 3), "convolution"),
        (nn.MultiheadAttention(4, 2), "attention"),
        (nn.Softmax(1), "softmax"),
        (nn.LogSoftmax(1), "softmax"),
        (nn.GroupNorm(2, 4), "norm"),
        (nn.InstanceNorm2d(4), "norm"),
        (nn.RMSNorm(4), "norm"),
        (nn.SyncBatchNorm(4), "norm"),
        (nn.GELU(), "activation"),
        (nn.Hardswish(), "activation"),
        (nn.MaxPool2d(2), None),
        (nn.Dropout(), None),
        (nn.Flatten(), None),
        (nn.Sequential(nn.ReLU()), None),
        (nn.ModuleDict({"norm": nn.Linear(1, 1)}), None),
    ],
    ids=str,
)
def test_kinds_of_single_layers(layer: nn.Module, kind: str | None) -> None:
    assert kind_of(layer) == kind


@pytest.mark.parametrize("name", ["resnetv2_50", "efficientnet_b0", "densenet121", "skresnet18"])
def test_norms_that_carry_their_activation_are_norms(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    statistics = [
        layer for layer in model.modules() if "running_mean" in layer._buffers or isinstance(layer, nn.GroupNorm)
    ]
    assert statistics
    assert all(is_norm(layer) and kind_of(layer) == "norm" for layer in statistics)


def test_a_block_is_no_activation_whatever_its_name_ends_in() -> None:
    with torch.device("meta"):
        model = timm.create_model("mobilenetv3_small_050")
    blocks = [layer for layer in model.modules() if any(isinstance(inner, nn.Conv2d) for inner in layer.children())]
    assert blocks
    assert [type(layer).__name__ for layer in blocks if kind_of(layer) is not None] == []


@pytest.mark.parametrize(
    ("layers", "settled"),
    [
        ({"depthwise": "fp32"}, {"3": "fp32"}),
        ({"[03]": "fp32"}, {"0": "fp32", "3": "fp32"}),
        ({"*": "fp32", "norm": "bf16"}, {"0": "fp32", "1": "bf16", **dict.fromkeys("2345", "fp32")}),
        ({"norm": "bf16", "*": "fp32"}, dict.fromkeys("012345", "fp32")),
        ({"3": "fp32", "depthwise": "fp16"}, {"3": "fp16"}),
        ({"loss": "fp32"}, {}),
        ({}, {}),
    ],
)
def test_patterns_and_kinds_are_matched_and_later_ones_win(layers: Any, settled: dict[str, str]) -> None:
    model = small()
    assert settle_layers(model, layers) == settled
    assert apply_policy(model, layers) == settled
    found = {name: own_format(layer) for name, layer in model.named_modules() if own_format(layer)}
    assert found == settled


def test_the_loss_is_no_layer_but_has_a_type() -> None:
    assert loss_dtype({"norm": "fp16", "loss": "bf16"}) == torch.bfloat16
    assert loss_dtype({"norm": "fp16"}) is None


def test_patterns_are_of_whole_names_with_dots() -> None:
    model = torchvision.models.mobilenet_v2()
    assert set(settle_layers(model, {"features.0.*": "fp32"})) == {"features.0.0", "features.0.1", "features.0.2"}
    assert set(settle_layers(model, {"features.18": "fp32"})) == {"features.18"}
    assert "classifier.1" in settle_layers(model, {"*.1": "fp32"})
    with pytest.raises(RecipeError):
        settle_layers(model, {"Features.18": "fp32"})


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("depthwize", "did you mean 'depthwise'?"),
        ("clasifier", "did you mean 'classifier'?"),
        ("xyz", f"a kind ({', '.join(KINDS)}) or a pattern of names, such as features*"),
    ],
)
def test_what_matches_no_layer_is_refused_with_a_hint_and_changes_nothing(pattern: str, hint: str) -> None:
    model = nn.ModuleDict({"features": nn.Linear(2, 2), "classifier": nn.Linear(2, 2)})
    apply_policy(model, {"features": "fp16"})
    with pytest.raises(RecipeError, match=f"precision.layers = '{pattern}': no layer of the network matches") as caught:
        apply_policy(model, {"classifier": "fp32", pattern: "fp32"})
    assert caught.value.hint == hint
    assert [own_format(layer) for layer in model.values()] == ["fp16", None]


def test_the_root_is_no_layer() -> None:
    with pytest.raises(RecipeError, match="no layer"):
        apply_policy(nn.Linear(2, 2), {"linear": "fp32"})


@pytest.mark.parametrize("outer", ["fp32", "bf16"])
@pytest.mark.parametrize("own", ["fp32", "bf16", "fp16"])
def test_inputs_are_cast_at_the_border_and_outputs_handed_on_as_they_are(outer: str, own: str) -> None:
    model = small()[:5]
    apply_policy(model, {"3": own})

    def run() -> None:
        with torch.autocast("cpu", DTYPES[outer] if outer != "fp32" else None, enabled=outer != "fp32"):
            model(torch.randn(2, 3, 8, 8))

    given, got = given_and_got(model[3], run)
    handed_on = torch.float32 if outer == "fp32" else DTYPES[own]  # without autocast, the next layer takes no half
    assert given == [DTYPES[own]]
    assert got == [handed_on]
    given, _ = given_and_got(model[4], run)
    assert given == [handed_on]  # a result in fp32 that another layer would cut off is not cut off here


@pytest.mark.parametrize("own", ["bf16", "fp16"])
def test_a_reduced_layer_may_stand_anywhere_in_a_network_in_fp32(own: str) -> None:
    model = small()
    apply_policy(model, {"0": own, "3": own})
    assert model(torch.randn(2, 3, 8, 8)).dtype == torch.float32


def test_named_and_integer_inputs_are_passed_on() -> None:
    class Scaled(nn.Module):
        def forward(self, values: Tensor, labels: Tensor, *, by: Tensor, often: int) -> tuple[Any, ...]:
            return values.dtype, labels.dtype, by.dtype, often

    model = nn.Sequential(Scaled())
    apply_policy(model, {"0": "bf16"})
    found = model[0](torch.ones(2), torch.ones(2, dtype=torch.int64), by=torch.ones(2), often=3)
    assert found == (torch.bfloat16, torch.int64, torch.bfloat16, 3)


@pytest.mark.parametrize("which", ["0", "3", "5"])
def test_a_layer_in_fp32_within_bf16_computes_as_in_fp32_to_the_bit(which: str) -> None:
    model = small()
    apply_policy(model, {which: "fp32"})
    plain = copy.deepcopy(small().get_submodule(which))
    layer = model.get_submodule(which)
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    gradient = torch.autograd.grad(output.float().square().sum(), [seen[1], layer.weight])
    inputs = seen[0].detach().float()
    assert which == "0" or seen[0].dtype == torch.bfloat16
    expected = plain(inputs)
    assert torch.equal(seen[1], expected)
    expected.backward(gradient[0])
    assert torch.equal(gradient[1], plain.weight.grad)


def test_a_layer_in_bf16_within_fp32_computes_as_under_autocast_to_the_bit() -> None:
    ours, theirs = small(), small()
    apply_policy(ours, {"5": "bf16"})
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = ours(images)
    hidden = theirs[:5](images)
    with torch.autocast("cpu", torch.bfloat16):
        expected = theirs[5](hidden)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected.float())
    logits.float().square().sum().backward()
    expected.float().square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and mine.grad.dtype == torch.float32
        assert torch.equal(mine.grad, other.grad)


def test_a_container_takes_its_layers_along_and_inner_formats_win() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 2))
    layers = apply_policy(model, {"0": "fp32", "0.1": "fp16"})
    with torch.autocast("cpu", torch.bfloat16):
        given, got = given_and_got(model[0][0], lambda: model(torch.ones(1, 4)))
        assert given == got == [torch.float32]
        given, got = given_and_got(model[0][1], lambda: model(torch.ones(1, 4)))
        assert given == [torch.float16]
        assert got == [torch.float32]
        assert model(torch.ones(1, 4)).dtype == torch.bfloat16
    assert list(within(model, layers, "fp32")) == [model[0], model[0][0]]
    assert list(within(model, layers, "fp16")) == [model[0][1]]
    assert list(within(model, layers, "bf16")) == []


@pytest.mark.parametrize("own", ["fp32", "bf16", "fp16"])
def test_clearing_restores_and_a_new_policy_replaces_the_old(own: str) -> None:
    model, plain = small(), small()
    state = {name: set(vars(layer)) for name, layer in model.named_modules()}
    images = torch.randn(2, 3, 8, 8)
    apply_policy(model, {"*": own})
    assert apply_policy(model, {"5": "fp32"}) == {"5": "fp32"}
    assert [own_format(layer) for layer in model] == [None] * 5 + ["fp32"]
    clear_policy(model)
    assert {name: set(vars(layer)) for name, layer in model.named_modules()} == state
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(images), plain(images))


def test_a_copy_computes_with_its_own_weights() -> None:
    model = small()
    apply_policy(model, {"0": "fp32", "5": "fp32"})
    images = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        before = model(images)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not other(images).any()
        assert torch.equal(model(images), before)
        assert other(images).dtype == torch.float32  # its policy came along
    assert [own_format(layer) for layer in other] == [own_format(layer) for layer in model]


def mixed() -> tuple[nn.Module, Tensor]:
    model = small().eval()
    apply_policy(model, {"depthwise": "fp32", "linear": "bf16"})
    return model, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_policy_goes_into_a_compiled_network() -> None:
    model, images = mixed()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(images), model(images))
    assert torch.equal(compiled(images), model(images))
    with_policy = model(images)
    clear_policy(model)
    assert not torch.equal(model(images), with_policy)


def test_the_policy_goes_into_an_exported_network() -> None:
    model, images = mixed()
    expected = model(images)
    exported = torch.export.export(model, (images,))
    assert torch.equal(exported.module()(images), expected)
    found = [node.meta.get("val") for node in exported.graph.nodes]
    kinds = {value.dtype for value in found if isinstance(value, Tensor) and value.is_floating_point()}
    assert kinds == {torch.float32, torch.bfloat16}


def test_gradients_reach_the_weights_of_every_layer_in_fp32() -> None:
    model = small()
    apply_policy(model, {"depthwise": "fp32", "linear": "fp16"})
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(torch.randn(4, 3, 8, 8)).float(), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.grad.any() for parameter in model.parameters())
