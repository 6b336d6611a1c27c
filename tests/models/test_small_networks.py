"""The built-in networks."""

import pytest
import torch
from torch import nn

from halftone.base.errors import RecipeError
from halftone.models.build import build_model, native_input


def build(name: str, *, classes: int = 5, channels: int = 3, size: int = 32, dropout: float | None = None) -> nn.Module:
    return build_model(name, num_classes=classes, channels=channels, size=size, dropout=dropout).module


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 5, 6, 8, 15, 28, 32, 64])
def test_cnn_takes_any_size(size: int, channels: int) -> None:
    built = build_model("cnn", num_classes=7, channels=channels, size=size, dropout=None)
    assert built.module(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert (built.head, built.stem, built.auxiliary) == (("head",), ("stem.0",), 0.0)


@pytest.mark.parametrize(("size", "left"), [(64, 8), (32, 4), (28, 3), (24, 3), (16, 4), (8, 4), (6, 3), (5, 5)])
def test_cnn_keeps_what_little_there_is(size: int, left: int) -> None:
    network = build("cnn", size=size)
    features = network.get_submodule("blocks")(network.get_submodule("stem")(torch.rand(1, 3, size, size)))
    assert features.shape == (1, 256 if size >= 16 else 128, left, left)


@pytest.mark.parametrize(
    ("depth", "millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)],  # He et al. 2016, table 6
)
def test_cifar_resnets_are_as_large_as_published(depth: int, millions: float) -> None:
    with torch.device("meta"):
        network = build(f"cifar_resnet{depth}", classes=10)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert num_parameters == pytest.approx(millions * 1e6, rel=0.03)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    counted = [layer for layer in layers if isinstance(layer, nn.Linear) or layer.kernel_size == (3, 3)]
    assert len(counted) == depth


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_resnet20"])
def test_cifar_resnets_learn(name: str, channels: int) -> None:
    built = build_model(name, num_classes=4, channels=channels, size=32, dropout=0.1)
    logits = built.module(torch.rand(2, channels, 32, 32))
    assert logits.shape == (2, 4)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.module.parameters())
    assert (built.head, built.stem) == (("head",), ("stem.0",))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("cifar_resnet21", "cifar_resnet20"),
        ("cifar_resnet7", "cifar_resnet8"),
        ("cifar_resnet0", "cifar_resnet8"),
        ("cifar_resnet2", "cifar_resnet8"),
        ("cifar_resnet100", "cifar_resnet98"),
        ("cifar_resnet", "cifar_resnet20"),
        ("cifar_resnet020", "cifar_resnet20"),
        ("cifar_resnet99998", "cifar_resnet1202"),
        ("cifar_resnet" + "8" * 5000, "cifar_resnet20"),
    ],
)
def test_depths_that_do_not_exist_are_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RecipeError, match="6n") as caught:
        build(name)
    assert caught.value.hint == near


@pytest.mark.parametrize("name", ["cnn", "cifar_resnet20", "cifar_resnet8"])
def test_built_ins_take_what_they_get(name: str) -> None:
    assert native_input(name) is None


@pytest.mark.parametrize("name", ["cnn", "cifar_resnet8"])
def test_dropout_acts_in_training_only(name: str) -> None:
    network = build(name, dropout=0.9)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.9]
    images = torch.rand(8, 3, 32, 32)
    network.eval()
    assert torch.equal(network(images), network(images))
    assert not any(layer.p for layer in build(name).modules() if isinstance(layer, nn.Dropout))


def test_weights_follow_the_seed() -> None:
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(build("cnn").state_dict()["head.weight"])
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 16, 28, 32, 64])
def test_speednet_takes_any_size_from_that_of_its_first_convolution_on(size: int, channels: int) -> None:
    built = build_model("speednet", num_classes=7, channels=channels, size=size, dropout=0.1)
    assert built.module(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert (built.head, built.stem, built.auxiliary) == (("head",), ("stem",), 0.0)


def test_speednet_is_the_published_network() -> None:
    """For 32 pixels: 24 whitening filters, then 64, 256 and 256 channels of 15, 7 and 3 pixels, and small logits."""
    torch.manual_seed(0)
    network = build("speednet", classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_972_792
    seen = []
    for block in network.get_submodule("blocks"):
        block.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[1:])))
    logits = network(torch.randn(16, 3, 32, 32))
    assert seen == [(64, 15, 15), (256, 7, 7), (256, 3, 3)]
    assert network.get_submodule("stem").weight.shape == (24, 3, 2, 2)
    assert float(network.get_submodule("head").weight.detach().std()) == pytest.approx(1 / 256, rel=0.1)
    assert logits.std() < 0.3
