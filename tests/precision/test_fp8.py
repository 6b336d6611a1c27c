"""fp8 for linear layers: which, what is refused and how, and the conversion itself where torchao is there."""

import copy
import sys

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from halftone.base.errors import RecipeError, ResourceError
from halftone.precision import fp8
from halftone.precision.emulate import rounding
from halftone.precision.fp8 import check_fp8, convert_to_fp8, expected_gain, fp8_layers
from halftone.precision.policy import apply_policy, own_format
from halftone.precision.verbs import Precision
from halftone.system.device import DeviceFacts

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3))


def vision_transformer() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10)


def test_layers_whose_sides_are_multiples_of_sixteen_are_converted() -> None:
    found = fp8_layers(network())
    assert found.converted == ("0", "2")
    assert found.left == ("4",)
    assert found.share == (32 * 48 + 48 * 16) / (32 * 48 + 48 + 48 * 16 + 16 + 16 * 3 + 3)
    assert str(found) == (
        "2 linear layers with 95% of the parameters compute in fp8, 1 are left in bf16 (sides must be multiples of 16)"
    )
    assert "left in bf16" not in str(fp8_layers(network()[:3]))


def test_a_vision_transformer_is_nearly_all_fp8() -> None:
    found = fp8_layers(vision_transformer())
    assert found.left == ("head",)
    assert len(found.converted) == 2 * 4
    assert found.share > 0.9


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ([(1024, 4096), (4096, 1024)], "all are large enough to gain"),
        ([(1024, 4096), (256, 4096)], "1 of them are large enough to gain (both sides 1024 or more)"),
        ([(512, 1024)], "none has both sides of 1024 or more, so expect little or a loss against bf16"),
    ],
)
def test_the_gain_to_expect_depends_on_the_size(sides: list[tuple[int, int]], words: str) -> None:
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(*side) for side in sides))
    assert expected_gain(model).endswith(f"; {words}")
    assert expected_gain(model).startswith(str(fp8_layers(model)))


def test_a_convnet_is_refused_with_a_way_out() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18(num_classes=10)
    with pytest.raises(RecipeError) as caught:
        fp8_layers(model)
    assert str(caught.value) == (
        "precision.mode = fp8: none of the 1 linear layers has sides that are multiples of 16, "
        "and convolutions have no fp8"
    )
    assert caught.value.hint == "use bf16 here; fp8 is for transformers such as vit_b_16"


def test_a_cpu_is_refused_with_a_way_out() -> None:
    model = network()
    for attempt in (check_fp8, lambda device: convert_to_fp8(model, device)):
        with pytest.raises(ResourceError) as caught:
            attempt(CPU)
        assert "this device has no fp8 units; they are in NVIDIA GPUs from Ada (8.9) on" in str(caught.value)
        assert caught.value.hint == "use --precision bf16, or rehearse it: --precision.emulate fp8-e4m3"
    assert [type(layer) for layer in model] == [type(layer) for layer in network()]


def test_a_device_with_the_units_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DeviceFacts("cuda", "an L4", frozenset({"fp32", "fp8"}), (8, 9))
    monkeypatch.setattr(fp8, "device_facts", lambda device: facts)
    check_fp8(torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "torchao", None)  # the next thing that is missing
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(ResourceError, match="torchao"):
        convert_to_fp8(network(), torch.device("cuda"))


def test_without_torchao_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(ResourceError, match="this needs the package 'torchao'") as caught:
        convert_to_fp8(network(), CPU, emulate=True)
    assert caught.value.hint == 'pip install "halftone[fp8]"'


def converted(model: nn.Module) -> nn.Module:
    pytest.importorskip("torchao")
    convert_to_fp8(model, CPU, emulate=True)
    return model


def test_conversion_keeps_the_names_and_the_parameters() -> None:
    model = network()
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    converted(model)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert type(model[4]) is nn.Linear
    assert type(model[0]) is not nn.Linear


def test_a_converted_layer_multiplies_rounded_factors() -> None:
    model = converted(network())
    inputs = torch.randn(8, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model[0](inputs)
    factors = [rounding("fp8-e4m3")(value.float()) for value in (inputs, model[0].weight)]
    expected = F.linear(factors[0], factors[1], model[0].bias)
    full = F.linear(inputs.float(), model[0].weight, model[0].bias)
    assert (found - expected).norm() < 0.1 * (found - full).norm()


def test_training_is_in_fp8_and_evaluation_is_not() -> None:
    model, plain = converted(network()), network()
    inputs = torch.randn(8, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = plain(inputs)
        assert not torch.equal(model.train()(inputs), expected)
        assert torch.equal(model.eval()(inputs), expected)


def test_a_copy_of_a_converted_network_computes_with_its_own_weights() -> None:
    model = converted(network())
    other = copy.deepcopy(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for parameter in other.parameters():
            parameter.zero_()
        assert not other(torch.randn(8, 32)).any()
        assert model(torch.randn(8, 32)).any()


def test_a_converted_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    plain = fp8.convert_to_fp8
    monkeypatch.setattr(
        "halftone.precision.compute.convert_to_fp8",
        lambda model, device, keep: plain(model, device, keep=keep, emulate=True),
    )
    model = network()
    precision = Precision("fp8", model, torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9))
    labels = torch.arange(24) % 3
    inputs = F.one_hot(labels, 32).float() + 0.1 * torch.randn(24, 32, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        with precision.forward():
            loss = F.cross_entropy(model(inputs), labels)
        precision.backward(loss)
        assert precision.step().applied
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


def test_layers_with_a_format_of_their_own_are_not_converted() -> None:
    model = network()
    pytest.importorskip("torchao")
    fp8.convert_to_fp8(model, torch.device("cpu"), keep=apply_policy(model, {"0": "fp32"}), emulate=True)
    assert own_format(model[0]) == "fp32"
    inputs: Tensor = torch.randn(8, 32)
    with torch.no_grad():
        expected = network()[0](inputs)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model[0](inputs), expected)
