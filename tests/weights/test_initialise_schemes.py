"""Starting weights that need nothing but the shape of a layer, against torch and against their formulas."""

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import halftone
from halftone.base.errors import RecipeError
from halftone.run.recipe import Recipe
from halftone.weights.config import InitConfig, Scheme
from halftone.weights.initialise.apply import apply_init
from halftone.weights.initialise.schemes import fans, fill

LINEAR = nn.Linear(300, 500)
CONVOLUTION = nn.Conv2d(24, 48, 3)


def drawn(layer: nn.Module, scheme: Scheme, **options: Any) -> Tensor:
    fill(layer, scheme, torch.Generator().manual_seed(3), **options)
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().clone()


def torchs(layer: nn.Module, function: Any, **options: Any) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    expected = torch.empty(layer.weight.shape)
    function(expected, generator=torch.Generator().manual_seed(3), **options)
    return expected


@pytest.mark.parametrize("layer", [LINEAR, CONVOLUTION], ids=["linear", "convolution"])
@pytest.mark.parametrize(
    ("scheme", "options", "function", "theirs"),
    [
        ("he-normal", {}, nn.init.kaiming_normal_, {}),
        ("he-uniform", {}, nn.init.kaiming_uniform_, {}),
        ("he-normal", {"fan": "out"}, nn.init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}),
        ("he-normal", {"gain": 5 / 3}, nn.init.kaiming_normal_, {"nonlinearity": "tanh"}),
        ("lecun-normal", {}, nn.init.kaiming_normal_, {"nonlinearity": "linear"}),
        ("xavier-normal", {}, nn.init.xavier_normal_, {}),
        ("xavier-uniform", {}, nn.init.xavier_uniform_, {}),
        ("xavier-uniform", {"gain": 4.0}, nn.init.xavier_uniform_, {"gain": 4.0}),
        ("orthogonal", {}, nn.init.orthogonal_, {}),
        ("orthogonal", {"gain": math.sqrt(2)}, nn.init.orthogonal_, {"gain": math.sqrt(2)}),
        ("normal", {"std": 0.3}, nn.init.normal_, {"std": 0.3}),
        ("truncated-normal", {"std": 0.3}, nn.init.trunc_normal_, {"std": 0.3, "a": -0.6, "b": 0.6}),
    ],
)
def test_the_same_numbers_as_torch(layer: nn.Module, scheme: Scheme, options: Any, function: Any, theirs: Any) -> None:
    assert torch.equal(drawn(layer, scheme, **options), torchs(layer, function, **theirs))


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("normal", 0.01),
        ("uniform", 0.01),
        ("lecun-normal", 1 / math.sqrt(300)),
        ("lecun-uniform", 1 / math.sqrt(300)),
        ("he-uniform", math.sqrt(2 / 300)),
        ("xavier-normal", math.sqrt(2 / 800)),
        ("xavier-uniform", math.sqrt(2 / 800)),
    ],
)
def test_the_deviation_is_that_of_the_formula(scheme: Scheme, std: float) -> None:
    weight = drawn(LINEAR, scheme)
    assert float(weight.std()) == pytest.approx(std, rel=0.02)
    assert abs(float(weight.mean())) < 4 * std / math.sqrt(weight.numel())
    if scheme.endswith("uniform"):
        assert float(weight.abs().max()) == pytest.approx(math.sqrt(3) * std, rel=1e-3)


def test_a_truncated_normal_ends_at_two_deviations() -> None:
    assert float(drawn(LINEAR, "truncated-normal").abs().max()) <= 0.04


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(7, 5), (7, 5)),
        (nn.Conv2d(8, 16, 3), (72, 144)),
        (nn.Conv2d(8, 16, (1, 5), stride=2), (40, 80)),
        (nn.Conv2d(8, 8, 3, groups=8), (9, 9)),
        (nn.Conv2d(8, 16, 3, groups=4), (18, 36)),
        (nn.Conv1d(4, 6, 3), (12, 18)),
        (nn.Conv3d(2, 3, 3), (54, 81)),
        (nn.ConvTranspose2d(8, 16, 3), (72, 144)),
        (nn.ConvTranspose2d(8, 16, 2, stride=2), (8, 64)),
    ],
)
def test_fans(layer: nn.Module, expected: tuple[int, int]) -> None:
    assert fans(layer) == expected


@settings(max_examples=15)
@given(
    groups=st.sampled_from([1, 2, 16]), kernel=st.sampled_from([1, 2, 3]), transposed=st.booleans(),
    stride=st.sampled_from([1, 2]), seed=st.integers(0, 100),
)  # fmt: skip
def test_lecun_keeps_the_variance_whatever_the_convolution(
    groups: int, kernel: int, transposed: bool, stride: int, seed: int
) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(64, 64, kernel, stride=min(stride, kernel), groups=groups)
    fill(layer, "lecun-normal", torch.Generator().manual_seed(seed))
    images = torch.randn(8, 64, 20, 20, generator=torch.Generator().manual_seed(seed + 1))
    inside = layer(images).detach()[:, :, 3:-3, 3:-3]  # the border of a transposed convolution sums over less
    assert float(inside.std()) == pytest.approx(1.0, rel=0.2 if groups < 16 else 0.3)


def test_orthogonal_groups_and_transposed_convolutions_keep_lengths() -> None:
    grouped = drawn(nn.Conv2d(32, 8, 3, groups=2), "orthogonal").view(2, 4, -1)
    for part in grouped:
        assert torch.allclose(part @ part.T, torch.eye(4), atol=1e-5)
    transposed = drawn(nn.ConvTranspose2d(32, 8, 3), "orthogonal").transpose(0, 1).flatten(1)
    assert torch.allclose(transposed @ transposed.T, torch.eye(8), atol=1e-5)


def test_dirac_hands_its_input_on() -> None:
    images = torch.rand(2, 4, 6, 6)
    for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)):
        drawn(layer, "dirac")
        assert torch.equal(layer(images), images)
    square = nn.Linear(4, 4)
    drawn(square, "dirac")
    assert torch.equal(square(images[0, 0, :4, :4]), images[0, 0, :4, :4])


def test_dirac_first_hands_its_input_on_and_leaves_the_other_outputs_random() -> None:
    images = torch.rand(2, 4, 6, 6)
    layer = nn.Conv2d(4, 10, 3, padding=1)
    weight = drawn(layer, "dirac-first")
    outputs = layer(images)
    assert torch.equal(outputs[:, :4], images)
    bound = 1 / (4 * 9) ** 0.5  # torch's own for fresh layers
    assert 0.9 * bound < weight[4:].abs().max() <= bound
    assert weight[4:].flatten(1).norm(dim=1).min() > 0
    assert torch.equal(drawn(nn.Conv2d(4, 4, 3, padding=1), "dirac-first"), drawn(nn.Conv2d(4, 4, 3), "dirac"))
    grouped = drawn(nn.Conv2d(4, 8, 1, groups=2), "dirac-first").view(2, 4, 2)
    assert all(torch.equal(part[:2], torch.eye(2)) and part[2:].abs().min() > 0 for part in grouped)
    linear = drawn(nn.Linear(3, 5), "dirac-first")
    assert torch.equal(linear[:3], torch.eye(3))
    assert linear[3:].abs().min() > 0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 3)
    )


def test_layers_by_pattern_and_kind_later_ones_win() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    account = halftone.initialise(model, layers={"*": "he", "depthwise": "dirac", "head": "zeros"})
    assert dict(account.schemes) == {"0": "he-normal", "3": "dirac", "5": "zeros"}
    assert str(account) == "he-normal in 1 layer, dirac in 1 layer, zeros in 1 layer"
    after = model.state_dict()
    assert not after["5.weight"].any() and not after["0.bias"].any()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("1."))
    assert str(halftone.initialise(network(), layers={"stem": "orthogonal"})) == (
        "orthogonal in 1 layer, as the network brings them in 2 layers"
    )
    assert str(halftone.initialise(network())) == ""


def test_a_layer_depends_on_the_seed_and_its_name_alone() -> None:
    def stem(seed: int, **layers: str) -> Tensor:
        model = network()
        torch.rand(7)  # nobody else's numbers matter
        halftone.initialise(model, "he", seed=seed, layers=layers)
        return model.state_dict()["0.weight"]

    assert torch.equal(stem(1), stem(1, head="zeros"))
    assert not torch.equal(stem(1), stem(2))
    model, state = network(), torch.random.get_rng_state()
    halftone.initialise(model, "he")
    assert torch.equal(state, torch.random.get_rng_state())


def test_only_what_is_fresh_begins_anew() -> None:
    model = network()
    loaded = model.state_dict()["0.weight"].clone()
    config, fresh = InitConfig(scheme="he-normal"), {"5.weight", "5.bias"}
    account = apply_init(model, config, images=None, seed=0, head=("5",), stem=("0",), fresh=fresh)
    assert torch.equal(model.state_dict()["0.weight"], loaded)
    assert dict(account.schemes) == {"5": "he-normal"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layers": {"sten": "he"}}, "init.layers = 'sten': no linear layer or convolution"),
        ({"scheme": "hee"}, "scheme = 'hee'"),
        ({"layers": "head"}, "must be LAYER=VALUE"),
        ({"layers": {"head": "whatever"}}, "whatever"),
        ({"scheme": "he", "std": 0.1}, "std = 0.1 is for normal, uniform, truncated-normal"),
        ({"scheme": "xavier", "fan": "out"}, "fan = out is for he-normal"),
        ({"scheme": "normal", "gain": 2}, "gain = 2.0 is for he-normal"),
        ({"scheme": "normal", "std": 0}, "std = 0"),
        ({"scheme": "he", "gain": "automatic"}, "gain"),
        ({"scheme": "lsuv"}, "images are needed"),
        ({"scheme": "he", "gain": "auto"}, "images are needed"),
    ],
)
def test_faults_are_one_line_and_nothing_is_changed(values: dict[str, Any], words: str) -> None:
    model = network()
    before = model.state_dict()["0.weight"].clone()
    with pytest.raises(RecipeError) as caught:
        halftone.initialise(model, **values)
    assert words in str(caught.value)
    assert torch.equal(model.state_dict()["0.weight"], before)


def test_a_pattern_that_matches_nothing_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError) as caught:
        halftone.initialise(network(), layers={"sten": "he"})
    assert caught.value.hint == "did you mean 'stem'?"


@pytest.mark.parametrize(
    ("name", "means"),
    [("he", "he-normal"), ("Kaiming_Uniform", "he-uniform"), ("glorot", "xavier-uniform"), ("LSUV", "lsuv")],
)
def test_names_that_people_know(name: str, means: Scheme) -> None:
    assert Recipe.parse({"init": name}).init.scheme == means
    assert Recipe.parse({"init": {"layers": f"head={name}"}}).init.layers == {"head": means}
    assert means in get_args(Scheme)
