"""Starting weights that look at the network or at images: gains, LSUV, whitening, residual branches at zero."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import StdConv2d
from torch import Tensor, nn

import halftone
from halftone.base.errors import RecipeError
from halftone.models.build import build_model
from halftone.weights.initialise.gains import gain_of, integrated_gain
from halftone.weights.initialise.trace import Activation, trace
from halftone.weights.initialise.whitening import patch_covariance, whitening_filters


def photos(count: int = 64, channels: int = 3, size: int = 16) -> Tensor:
    """Smooth random pictures [count, channels, size, size]: neighbours and channels agree, as in photos."""
    noise = torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool2d(noise, 3, stride=1, padding=1) + noise.mean(1, keepdim=True)
    return (smooth - smooth.mean()) / smooth.std()


def activation(function: Any, name: str = "other") -> Activation:
    return Activation(name, function)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.relu, math.sqrt(2)),
        (lambda z: F.leaky_relu(z, 0.2), nn.init.calculate_gain("leaky_relu", 0.2)),
        (lambda z: z, 1),
    ],
)
def test_an_integrated_gain_is_that_of_the_closed_form(function: Any, expected: float) -> None:
    assert integrated_gain(activation(function)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("function", [F.gelu, F.silu, F.mish, F.elu, F.hardswish])
def test_an_integrated_gain_keeps_the_size_of_random_numbers(function: Any) -> None:
    numbers = torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    kept = integrated_gain(activation(function)) * function(numbers)
    assert float(kept.square().mean()) == pytest.approx(1.0, rel=0.01)


def test_torchs_gains_where_torch_has_them() -> None:
    assert gain_of(activation(torch.tanh, "tanh")) == 5 / 3
    assert gain_of(activation(F.selu, "selu")) == 0.75
    assert gain_of(activation(torch.sigmoid, "sigmoid")) == 1
    assert gain_of(None) == 1


class Functional(nn.Module):
    """Activations of all kinds of spelling, behind norms and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c, self.d = (
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 8)
        )  # fmt: skip
        self.prelu, self.e, self.f = nn.PReLU(init=0.1), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.norm(self.a(images)), 2))
        x = F.leaky_relu(self.b(x), 0.3, inplace=True)
        x = self.c(x).tanh()
        x = self.prelu(self.d(x.mean((2, 3))))
        return self.f(F.elu(self.e(x) * 1.0, alpha=2.0))


def test_the_activation_of_each_layer_is_seen_however_it_is_spelled() -> None:
    found, output = trace(Functional(), photos(2))
    assert found.order == ["a", "b", "c", "d", "e", "f"]
    assert {name: one.name for name, one in found.activations.items()} == {
        "a": "relu", "b": "leaky_relu", "c": "tanh", "d": "prelu", "e": "elu",
    }  # fmt: skip
    assert output.shape == (2, 3)
    assert gain_of(found.activations["b"]) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-5)
    assert gain_of(found.activations["d"]) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.1), rel=1e-5)
    numbers = torch.tensor([-1.0, 2.0])
    assert torch.equal(found.activations["e"].function(numbers), F.elu(numbers, alpha=2.0))


def test_gain_auto_takes_each_layers_own() -> None:
    model, images = Functional(), photos(4)
    account = halftone.initialise(model, "xavier", gain="auto", images=images, seed=4)
    assert account.gains["a"] == pytest.approx(math.sqrt(2))
    assert (account.gains["c"], account.gains["f"]) == (5 / 3, 1.0)
    plain = Functional()
    halftone.initialise(plain, "xavier", seed=4)
    assert torch.allclose(model.c.weight, 5 / 3 * plain.c.weight)
    assert torch.equal(model.f.weight, plain.f.weight)


def outputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.detach()}))
    model(images)
    return found


@pytest.mark.parametrize("name", ["plain12", "plain12_tanh", "plain9_sigmoid", "cifar_resnet8"])
def test_lsuv_gives_every_layer_a_variance_of_one(name: str) -> None:
    built = build_model(name, num_classes=4, channels=3, size=16, dropout=0.3)
    model, images = built.module.eval(), photos()
    before = {key: value.clone() for key, value in model.named_buffers()}
    state = torch.random.get_rng_state()
    account = halftone.initialise(model, "lsuv", images=images)
    assert account.unscaled == ()
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert torch.equal(state, torch.random.get_rng_state())
    for layer, output in outputs(model.train(), images).items():
        tolerance = 0.35 if layer == "head" else 0.05  # another draw of dropout before the head
        assert float(output.var()) == pytest.approx(1.0, rel=tolerance), layer
    rows = model.get_parameter(next(name for name, _ in model.named_parameters())).detach().flatten(1)
    rows = rows if len(rows) <= rows.shape[1] else rows.T
    products = rows @ rows.T
    assert torch.allclose(products, products[0, 0] * torch.eye(len(rows)), atol=1e-4 * float(products[0, 0]))


def test_lsuv_depends_on_its_seed_and_not_on_what_was_drawn_before() -> None:
    def weights(seed: int, state: int) -> Tensor:
        model = build_model("cnn", num_classes=4, channels=3, size=16, dropout=0.5).module
        torch.manual_seed(state)
        halftone.initialise(model, "lsuv", images=photos(), seed=seed)
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    assert torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))


def test_lsuv_says_which_layers_standardise_their_weight_themselves() -> None:
    model = nn.Sequential(StdConv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    account = halftone.initialise(model, "lsuv", images=photos(8))
    assert account.unscaled == ("0",)
    assert float(model(photos(8)).detach().var()) == pytest.approx(
        1.0, rel=1e-3
    )  # the next one is scaled for what comes


def test_lsuv_names_what_it_cannot_scale() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.never = nn.Conv2d(3, 4, 3), nn.Linear(2, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images).mean((2, 3))

    account = halftone.initialise(Idle(), "lsuv", images=photos(4))
    assert account.unscaled == ("never",)
    assert str(account) == "lsuv in 2 layers; 1 layer could not be scaled"


@settings(max_examples=15)
@given(channels=st.sampled_from([1, 3]), kernel=st.sampled_from([1, 2, 3]), count=st.integers(1, 80))
def test_whitening_filters_have_responses_without_covariance(channels: int, kernel: int, count: int) -> None:
    images = photos(channels=channels)
    covariance = patch_covariance(images, (kernel, kernel))
    size = channels * kernel**2
    filters = whitening_filters(covariance, count)
    assert filters.shape == (2 * size if count >= 2 * size else min(count, size), size)
    directions = filters[:size]
    assert torch.allclose(directions @ covariance @ directions.T, torch.eye(len(directions)).double(), atol=0.1)
    if len(filters) > size:
        assert torch.equal(filters[size:], -filters[:size])


@pytest.mark.parametrize(("width", "whitening"), [(8, 8), (27, 27), (40, 27), (54, 54), (64, 54)])
def test_a_first_convolution_whitens_and_the_rest_follows_the_scheme(width: int, whitening: int) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 256, 2))

    model, plain, images = network(), network(), photos()
    account = halftone.initialise(model, "he", whiten=True, images=images)
    halftone.initialise(plain, "he")
    assert (account.whitened, account.num_whitening) == ("0", whitening)
    assert f"{whitening} filters of 0 whiten" in str(account)
    assert torch.equal(model[0].weight[whitening:], plain[0].weight[whitening:])
    responses = F.conv2d(images, model[0].weight[: min(whitening, 27)]).detach().transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(responses), torch.eye(len(responses)), atol=0.1)
    assert not model[0].bias.any()


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("cifar_resnet8", ["stage1.0.norm2", "stage2.0.norm2", "stage3.0.norm2"]),
        ("resnet18", [f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1)]),
        ("resnet50", [f"layer{s}.{block}.bn3" for s in (1, 2, 3, 4) for block in range((3, 4, 6, 3)[s - 1])]),
        ("timm:resnet10t", [f"layer{stage}.0.bn2" for stage in (1, 2, 3, 4)]),
        ("timm:seresnet18", [f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1)]),
    ],
)  # fmt: skip
def test_every_residual_branch_begins_at_zero(name: str, ends: list[str]) -> None:
    model = build_model(name, num_classes=3, channels=3, size=32, dropout=None).module
    norms = {key: layer for key, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for norm in norms.values():
        nn.init.ones_(norm.weight)
    account = halftone.initialise(model, zero_gamma=True, images=photos(2, size=32))
    assert list(account.zeroed) == ends
    assert [key for key, norm in norms.items() if not norm.weight.any()] == ends
    assert str(account) == f"{len(ends)} residual branches begin at zero"


def test_a_block_that_begins_at_zero_is_its_shortcut() -> None:
    model = build_model("cifar_resnet8", num_classes=3, channels=3, size=16, dropout=None).module
    halftone.initialise(model, zero_gamma=True, images=photos(2))
    block, inputs = model.get_submodule("stage1.0"), torch.rand(2, 16, 8, 8)
    assert torch.equal(block(inputs), inputs)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("cnn", {"zero_gamma": True}, "init.zero_gamma: no residual branch"),
        ("timm:convnext_atto", {"zero_gamma": True}, "init.zero_gamma: no residual branch"),
    ],
)
def test_networks_without_such_branches_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    model = build_model(name, num_classes=3, channels=3, size=32, dropout=None).module
    with pytest.raises(RecipeError, match=words):
        halftone.initialise(model, images=photos(2, size=32), **settings)


def test_whitening_needs_a_plain_first_convolution() -> None:
    grouped = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.LazyLinear(2))
    grouped(photos(2))
    before = grouped[0].weight.clone()
    with pytest.raises(RecipeError, match=r"init\.whiten: 0 is no plain convolution over the picture"):
        halftone.initialise(grouped, "he", whiten=True, images=photos(2))
    assert torch.equal(grouped[0].weight, before)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with pytest.raises(RecipeError, match=r"init\.whiten: 1 is no plain convolution over the picture"):
        halftone.initialise(dense, whiten=True, images=photos(2))


def test_of_many_patches_some_stand_for_all() -> None:
    images = photos(100, channels=1, size=64)
    found = patch_covariance(images, (3, 3))  # 384,400 patches
    rows = torch.cat([F.unfold(image[None], 3).transpose(1, 2)[0] for image in images])
    assert torch.allclose(found, torch.cov(rows.T.double(), correction=0), atol=0.02)
