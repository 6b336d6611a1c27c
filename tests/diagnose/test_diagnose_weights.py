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
from halftone.diagnose.weights_verdict import TOLERANCE, LayerHealth, judge
from halftone.report.figures import to_png
from halftone.run.recipe import Recipe
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
    assert "activations fall by a factor of" in xavier.verdict.text and "no learning" in xavier.verdict.text
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
    assert (
        huge.verdict.text == "explodes: the numbers of layers.5.0 are not finite" or "not finite" in huge.verdict.text
    )
    assert huge.loss is None


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


def row(number: int, **values: Any) -> LayerHealth:
    known = {"activation": "relu", "mean": 0.0, "std": 1.0, "gradient": 1.0, "weight_gradient": 1.0}
    return LayerHealth(name=f"l{number}", **{**known, **values})


@pytest.mark.parametrize(
    ("std", "gradient", "outcome", "words"),
    [
        (1.0, 1.0, "healthy", "activations keep their size and gradients keep their size over 2 layers"),
        (1.01 / TOLERANCE, 1.0, "healthy", "activations fall by a factor of 9.9e+02"),
        (0.99 / TOLERANCE, 1.0, "vanishes", "activations fall by a factor of 1e+03 over 2 layers; expect a late start"),
        (1.0, 0.01 / TOLERANCE, "vanishes", "gradients fall by a factor of 1e+05 over 2 layers; expect no learning"),
        (1.01 * TOLERANCE, 1.0, "explodes", "activations grow by a factor of 1e+03"),
        (None, 1.0, "explodes", "the numbers of l1 are not finite"),
        (0.0, 1.0, "vanishes", "l1 gives the same for every image"),
        (1.0, 0.0, "vanishes", "no gradient reaches l0"),
    ],
)
def test_the_limits_of_the_verdict(std: float | None, gradient: float, outcome: str, words: str) -> None:
    verdict = judge([row(0, gradient=gradient), row(1, std=std), row(2, gradient=None)], head=("l2",))
    assert verdict.outcome == outcome
    assert words in verdict.text


def test_a_branch_or_head_at_zero_is_no_fault() -> None:
    assert judge([row(0), row(1), row(2, gradient=0.0)], head=()).outcome == "healthy"
    assert judge([row(0, gradient=0.0), row(1, gradient=0.0)], head=()).outcome == "healthy"
    assert judge([row(0)], head=()).outcome == "healthy"


def test_the_picture_shows_a_line_for_each_start(thirty: DiagnosedWeights) -> None:
    figure = weights_figure(thirty)
    for axes in figure.axes:
        labels = axes.get_legend_handles_labels()[1]
        assert labels[:2] == ["xavier-uniform: vanishes", "he-normal: healthy"]
        assert labels[-1] == "healthy"
        lines = axes.get_lines()
        assert len(lines) == 4 and all(len(line.get_xdata()) == 29 for line in lines)
    with Image.open(BytesIO(to_png(figure))) as picture:
        assert min(picture.size) > 300


def test_faults(source: Path) -> None:
    with pytest.raises(RecipeError, match="scheme = 'hee'"):
        diagnose_weights(asked(source), ["hee"])
    with pytest.raises(RecipeError, match="no linear layer and no convolution"):
        diagnose_weights(asked(source, init="default"), model=nn.Sequential(nn.Flatten(), Weighted()))


class Weighted(nn.Module):
    """Weights, but no layer that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(768, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight
