"""Starting weights diagnosed before training: the verdict against networks whose fate is known."""

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from halftone.base.errors import RecipeError
from halftone.diagnose.weights import DiagnosedWeights, diagnose_weights
from halftone.diagnose.weights_figure import weights_figure
from halftone.diagnose.weights_verdict import STRONGER, WEAKER, LayerHealth, judge
from halftone.report.figures import to_png
from halftone.run import start
from halftone.run.recipe import Recipe
from halftone.weights.files import StoredWeights, load_weights, save_plain
from samples import wish, write_npz


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("diagnosed") / "tiny.npz")


def asked(source: Path, **values: Any) -> Recipe:
    return wish(source, source.parent, **{"model": "plain30", "init": "he", **values})


@pytest.fixture(scope="module")
def thirty(source: Path) -> DiagnosedWeights:
    return diagnose_weights(asked(source, init="xavier"), ["he", "lsuv", "xavier", "default"])


def test_thirty_layers_of_relu_live_with_he_and_fade_with_xavier(thirty: DiagnosedWeights) -> None:
    outcomes = {found.label: found.verdict.outcome for found in thirty.found}
    assert outcomes == {
        "xavier-uniform": "vanishes", "he-normal": "healthy", "lsuv": "healthy", "default": "vanishes",
    }  # fmt: skip
    xavier, he, lsuv, _ = thirty.found
    # He et al. 2015: half of the variance is lost in each layer behind a ReLU
    assert he.verdict.activations is not None and xavier.verdict.activations is not None
    assert he.verdict.activations / xavier.verdict.activations == pytest.approx(math.sqrt(2) ** 28, rel=1)
    assert "fall by a factor of 1" in xavier.verdict.text and "no learning" in xavier.verdict.text
    assert lsuv.verdict.activations == pytest.approx(1, rel=0.05)
    assert thirty.remedy is lsuv  # nearest to one
    assert xavier.weights == "fresh; xavier-uniform in 30 layers"


def test_the_numbers_are_those_of_the_network(source: Path, thirty: DiagnosedWeights) -> None:
    he = thirty.found[1]
    assert [layer.activation for layer in he.layers] == ["relu"] * 29 + [None]
    assert he.layers[-1].name == "head" and thirty.head == ("head",)
    assert he.batch_size == 16
    assert he.loss == pytest.approx(math.log(3), rel=0.5)
    for layer in he.layers[:-1]:
        assert layer.std and layer.activation_std and layer.gradient and layer.weight_gradient
        assert layer.activation_std < layer.std


def test_a_sigmoid_stops_the_gradient_and_a_larger_gain_helps(source: Path) -> None:
    found = diagnose_weights(asked(source, model="plain9_sigmoid"))
    verdict = found.found[0].verdict
    assert verdict.outcome == "vanishes" and "gradients fall" in verdict.text
    assert found.remedy is not None
    assert (found.remedy.init.scheme, found.remedy.init.gain) == ("xavier-uniform", 4.0)


def test_tanh_saturates_when_weights_are_large(source: Path) -> None:
    found = diagnose_weights(asked(source, model="plain6_tanh", init={"scheme": "normal", "std": 2.0})).found[0]
    assert all(layer.saturated > 0.5 for layer in found.layers[:-1])
    assert "more than half saturated in" in found.verdict.text


def test_numbers_that_grow_explode(source: Path) -> None:
    found = diagnose_weights(asked(source, model="plain16", init={"scheme": "xavier", "gain": 5}))
    assert found.found[0].verdict.outcome == "explodes"
    assert found.remedy is not None and found.remedy.label == "he-normal"
    assert found.found[0].label == "xavier-uniform, gain 5.0"
    huge = diagnose_weights(asked(source, model="plain16", init={"scheme": "normal", "std": 1e6})).found[0]
    assert huge.verdict.outcome == "explodes" and "are not finite" in huge.verdict.text
    assert huge.loss is None and not all(layer.finite for layer in huge.layers)


def test_normalised_residual_networks_are_healthy_whatever_the_start(source: Path) -> None:
    for init in ("default", "he", "xavier", {"zero_gamma": True}, {"layers": "head=zeros"}, {"whiten": True}):
        found = diagnose_weights(asked(source, model="cifar_resnet8", init=init))
        assert found.found[0].verdict.outcome == "healthy", init
        assert found.remedy is None


def test_zeros_give_the_same_for_every_image(source: Path) -> None:
    found = diagnose_weights(asked(source, model="plain4", init="zeros"))
    assert found.found[0].verdict.text == "vanishes: layers.0.0 gives the same for every image; expect no learning"
    assert found.remedy is not None and found.remedy.init.scheme == "he-normal"


class Dead(nn.Module):
    """Its second layer is below zero everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)
        nn.init.constant_(self.second.bias, -100.0)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(images).relu()).relu().mean((2, 3)))


def test_dead_units_are_counted_and_the_given_network_stays_as_it_is(source: Path) -> None:
    model = Dead()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = diagnose_weights(asked(source, init="default"), model=model).found[0]
    assert [layer.dead for layer in found.layers] == [0.0, 1.0, 0.0]
    assert found.verdict.text == "vanishes: second gives the same for every image; expect no learning"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Scaled(nn.Module):
    """Blocks whose branches hardly count at first (Touvron et al. 2021, CaiT), behind a stem with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.unused = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)
        nn.init.normal_(self.stem.weight, std=0.01)  # the norm makes up for it

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(images))
        for block in self.blocks:
            x = x + 1e-6 * block(x).relu()
        self.unused(x)
        return self.head(x.mean((2, 3)))


def test_scaled_branches_norms_and_unused_layers_are_no_fault(source: Path) -> None:
    found = diagnose_weights(asked(source, init="default"), model=Scaled()).found[0]
    assert found.verdict.outcome == "healthy"
    assert [layer.name for layer in found.layers] == ["stem", *(f"blocks.{n}" for n in range(4)), "unused", "head"]
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["stem"].std == pytest.approx(1, abs=0.1)  # behind the norm
    assert by_name["unused"].gradient is None and by_name["unused"].finite


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm:convnext_atto"])
def test_networks_that_are_known_to_train_are_healthy(source: Path, name: str) -> None:
    assert diagnose_weights(asked(source, model=name, init="default")).found[0].verdict.outcome == "healthy"


def test_frozen_layers_are_no_fault(source: Path) -> None:
    few, all_ = (
        diagnose_weights(asked(source, model="cifar_resnet8", init="default", weights={"freeze": freeze})).found[0]
        for freeze in ("1", "backbone")
    )
    assert few.verdict.outcome == all_.verdict.outcome == "healthy"
    assert few.layers[0].gradient is None and few.layers[1].gradient
    assert few.verdict.gradients is not None
    assert all_.verdict.gradients is None and "no gradient comes down to them" in all_.verdict.text


def test_a_layers_scheme_that_spoils_it_is_given_up(source: Path) -> None:
    found = diagnose_weights(asked(source, init={"scheme": "he", "layers": {"convolution": "xavier"}}))
    assert found.found[0].verdict.outcome == "vanishes"
    assert found.remedy is not None
    assert (found.remedy.init.scheme, found.remedy.init.layers) == ("he-normal", {})


def test_weights_are_read_once_and_win(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Dead()
    file, reads = tmp_path / "dead.safetensors", list[Path]()
    save_plain(file, model.state_dict())

    def counted(path: Path) -> StoredWeights:
        reads.append(path)
        return load_weights(path)

    monkeypatch.setattr(start, "load_weights", counted)
    found = diagnose_weights(asked(source, init="default", weights=file), ["lsuv", "zeros"], model=Dead()).found
    assert len(reads) == 1
    assert [one.layers[1].dead for one in found] == [1.0, 1.0, 1.0]
    assert all(one.weights.startswith("6 tensors loaded") for one in found)


def test_dropout_draws_the_same_whatever_was_drawn_before(source: Path) -> None:
    wanted = asked(source, model={"name": "cnn", "dropout": 0.5}, init="lsuv")
    torch.manual_seed(1)
    one = diagnose_weights(wanted).found[0]
    torch.manual_seed(2)
    assert diagnose_weights(wanted).found[0] == one


def row(number: int, **values: Any) -> LayerHealth:
    known = {"activation": "relu", "mean": 0.0, "std": 1.0, "activation_std": 1.0, "gradient": 1.0}
    return LayerHealth(name=f"l{number}", **{**known, **values})


@pytest.mark.parametrize(
    ("first", "second", "outcome", "words"),
    [
        ({}, {}, "healthy", "activations keep their size and gradients keep their size over 2 layers"),
        ({}, {"std": 1.01 / WEAKER}, "healthy", "activations fall by a factor of 9.9e+02"),
        ({}, {"std": 0.99 / WEAKER}, "vanishes", "activations fall by a factor of 1e+03 over 2 layers; expect a l"),
        ({"gradient": 0.01 / WEAKER}, {}, "vanishes", "gradients fall by a factor of 1e+05 over 2 layers; expect n"),
        ({}, {"std": 0.99 * STRONGER["activations"]}, "healthy", "activations grow by a factor of 99"),
        ({}, {"std": 1.01 * STRONGER["activations"]}, "explodes", "activations grow by a factor of 1e+02"),
        ({"gradient": 0.9 * STRONGER["gradients"]}, {}, "healthy", "gradients grow by a factor of 9e+02"),
        ({"gradient": 1.1 * STRONGER["gradients"]}, {}, "explodes", "gradients grow by a factor of 1.1e+03"),
        ({}, {"std": None, "finite": False}, "explodes", "the numbers of l1 are not finite"),
        ({"gradient": 0.0}, {"dead": 1.0, "activation_std": 0.0}, "vanishes", "l1 gives the same for every image"),
        ({"gradient": 0.0}, {}, "vanishes", "no gradient reaches l0"),
    ],
)
def test_the_limits_of_the_verdict(first: Any, second: Any, outcome: str, words: str) -> None:
    verdict = judge([row(0, **first), row(1, **second), row(2, input_gradient=1.0)], head=("l2",))
    assert verdict.outcome == outcome
    assert words in verdict.text


def test_gradients_are_compared_with_what_the_head_takes() -> None:
    layers = [row(0), row(1, gradient=1e-6), row(2, input_gradient=0.5)]  # l1 lies in a branch that hardly counts
    assert judge(layers, head=("l2",)).gradients == 2
    assert judge(layers[:2], head=()).outcome == "explodes"


def test_a_branch_or_head_at_zero_is_no_fault() -> None:
    assert judge([row(0), row(1), row(2, gradient=0.0)], head=()).outcome == "healthy"
    assert judge([row(0), row(1, std=0.0), row(2)], head=()).outcome == "healthy"
    alone = judge([row(0, gradient=0.0), row(1, gradient=0.0)], head=())
    assert alone.outcome == "healthy" and "no gradient comes down" in alone.text
    assert judge([row(0)], head=()).text == "healthy: too few layers to fade"
    assert judge([], head=()).outcome == "healthy"
    assert judge([row(0, gradient=None), row(1)], head=()).gradients == 1  # frozen


def test_the_picture_shows_a_line_for_each_start(thirty: DiagnosedWeights) -> None:
    figure = weights_figure(thirty)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["explodes", "healthy", "vanishes"]
        low, high = axes.get_ylim()
        assert low < 1 / WEAKER and high > STRONGER["gradients"]
        lines = axes.get_lines()
        assert len(lines) == 4 and all(len(line.get_xdata()) == 29 for line in lines)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["xavier-uniform: vanishes", "he-normal: healthy", "lsuv: healthy", "default: vanishes"]
    with Image.open(BytesIO(to_png(figure))) as picture:
        assert min(picture.size) > 300


def test_faults(source: Path) -> None:
    with pytest.raises(RecipeError, match="compare = 'hee'") as caught:
        diagnose_weights(asked(source), ["hee"])
    assert caught.value.hint == "did you mean 'he'?"
    with pytest.raises(RecipeError, match="no linear layer and no convolution"):
        diagnose_weights(asked(source, init="default"), model=nn.Sequential(nn.Flatten(), Weighted()))


class Weighted(nn.Module):
    """Weights, but no layer that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(768, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight
