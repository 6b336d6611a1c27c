"""Precision diagnosed on small networks of our own, one of which is made to fail."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from halftone.base.errors import RecipeError
from halftone.base.records import to_yaml
from halftone.diagnose.figure import health_figure
from halftone.diagnose.precision import PrecisionDiagnosis, Watched, diagnose_precision, types_of_step
from halftone.report.figures import to_png
from halftone.run.recipe import Recipe, read_recipe
from samples import wish, write_npz

NETWORKS = """
import torch
from torch import nn


class Fade(nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * 1e-6 + (logits * (1 - 1e-6)).detach()


class Plain(nn.Module):
    def __init__(self, num_classes: int, first: float = 1.0, fades: bool = False) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=4, bias=False), nn.BatchNorm2d(8)
        self.act, self.head = nn.ReLU(), nn.Linear(128, num_classes)
        self.last = Fade() if fades else nn.Identity()
        with torch.no_grad():
            self.stem.weight *= first

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.head(self.act(self.norm(self.stem(images))).flatten(1)))


class Faint(Plain):  # what flows back is a millionth of what it should be
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, fades=True)


class FaintInside(Plain):  # the same, but not by a layer
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return Fade.forward(self, super().forward(images))


class Loud(Plain):  # what its first layer gives is too large for fp16
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, first=1e6)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed")
    write_npz(folder / "tiny.npz")
    (folder / "networks.py").write_text(NETWORKS)
    return folder


def asked(place: Path, network: str, **settings: Any) -> Recipe:
    return wish(place / "tiny.npz", place, model=f"{place / 'networks.py'}:{network}", **settings)


@pytest.fixture(scope="module")
def plain(place: Path) -> Watched:
    return diagnose_precision(asked(place, "Plain"), "fp16", num_steps=3)


@pytest.fixture(scope="module")
def faint(place: Path) -> Watched:
    return diagnose_precision(asked(place, "Faint"), "fp16", num_steps=3)


def layer(found: Watched, name: str) -> Any:
    return next(one for one in found.diagnosis.health.layers if one.name == name)


def test_a_healthy_network_needs_no_care(plain: Watched) -> None:
    found = plain.diagnosis
    assert (found.format, found.num_steps, found.batch_size) == ("fp16", 3, 16)
    assert [one.name for one in found.health.layers] == ["stem", "norm", "act", "head"]
    assert found.health.keep == ()
    assert found.after.cosine is not None and found.after.cosine > 0.99
    assert found.after.underflow < 0.01
    assert 0 < layer(plain, "act").output.zeros < 1
    assert layer(plain, "head").output.zeros == 0


def test_every_step_and_value_was_watched(plain: Watched) -> None:
    numbers = plain.numbers
    assert numbers["head"].output.total == numbers["head"].gradient.total == 3 * 16 * 3
    assert numbers["head"].weight_gradient.total == 3 * (128 * 3 + 3)
    assert numbers["stem"].output.total == 3 * 16 * 8 * 4 * 4


def test_a_network_whose_gradients_are_tiny_loses_them_without_a_scale_and_not_with_it(faint: Watched) -> None:
    found = faint.diagnosis
    for name in ("stem", "norm", "head"):
        assert layer(faint, name).lost > 0.5
        assert layer(faint, name).lost_scaled < 0.05
    assert found.health.loss_scale >= 2.0**14
    assert found.health.keep == ()
    assert found.before.loss_scale == 1
    assert found.before.underflow > 0.4
    assert found.before.cosine is not None and found.before.cosine < 0.9
    assert found.after.loss_scale == found.health.loss_scale
    assert found.after.underflow < 0.05
    assert found.after.cosine is not None and found.after.cosine > 0.98


def test_the_proposed_scale_leaves_the_gradient_of_the_output_finite(place: Path) -> None:
    found = diagnose_precision(asked(place, "FaintInside"), "fp16", num_steps=1).diagnosis
    assert found.after.cosine is not None


def test_in_bf16_the_same_network_is_healthy(place: Path) -> None:
    found = diagnose_precision(asked(place, "Faint"), "bf16", num_steps=1).diagnosis
    assert found.health.loss_scale == 1
    assert all(one.lost < 0.01 for one in found.health.layers)
    assert found.before.cosine is not None and found.before.cosine > 0.98


def test_a_layer_that_overflows_is_kept_in_fp32_which_mends_it(place: Path) -> None:
    found = diagnose_precision(asked(place, "Loud"), "fp16", num_steps=1)
    assert found.diagnosis.health.keep == ("stem",)
    assert "overflows" in layer(found, "stem").keep
    assert found.diagnosis.before.cosine is None  # its gradients are not finite
    assert found.diagnosis.after.layers_in_fp32 == ("stem",)
    assert found.diagnosis.after.cosine is not None and found.diagnosis.after.cosine > 0.98
    assert diagnose_precision(asked(place, "Loud"), "bf16", num_steps=1).diagnosis.health.keep == ()


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2", "tf32"])
def test_every_format_can_be_judged(place: Path, name: Any) -> None:
    found = diagnose_precision(asked(place, "Plain"), name, num_steps=1).diagnosis
    assert found.format == name
    assert found.health.loss_scale == 1
    assert found.before.cosine is not None and found.before.cosine > 0.8


def test_no_updates_are_counted_for_weights_of_eight_bits(place: Path) -> None:
    assert diagnose_precision(asked(place, "Plain"), "fp8-e4m3", num_steps=1).diagnosis.lost_updates is None


def test_updates_are_not_counted_for_tf32(place: Path) -> None:
    assert diagnose_precision(asked(place, "Plain"), "tf32", num_steps=1).diagnosis.lost_updates is None


def test_a_diagnosis_repeats(place: Path, plain: Watched) -> None:
    again = diagnose_precision(asked(place, "Plain"), "fp16", num_steps=3)
    assert again.diagnosis == plain.diagnosis


@pytest.mark.parametrize(("lr", "least", "most"), [(1e-8, 0.9, 1.0), (0.5, 0.0, 0.3)])
def test_updates_that_half_weights_would_lose_are_counted(place: Path, lr: float, least: float, most: float) -> None:
    recipe = asked(place, "Plain", optimizer="sgd", lr=lr, warmup="0it")
    lost = diagnose_precision(recipe, "bf16", num_steps=1).diagnosis.lost_updates
    assert lost is not None and least <= lost <= most


def test_the_proposal_is_a_recipe_that_can_be_read(place: Path, faint: Watched) -> None:
    fixed = faint.fixed()
    assert fixed.precision.mode == "fp16"
    assert fixed.precision.scale == faint.diagnosis.health.loss_scale
    (place / "fixed.yaml").write_text(to_yaml(fixed))
    assert read_recipe(place / "fixed.yaml") == fixed
    assert fixed.replaced(precision=asked(place, "Faint").precision) == asked(place, "Faint")


def test_the_proposal_keeps_what_was_asked_and_adds_to_it(place: Path) -> None:
    recipe = asked(
        place, "Loud", precision={"mode": "bf16", "layers": "norm=fp32", "scale_cap": 2.0**17, "max_skipped": 7}
    )
    fixed = diagnose_precision(recipe, "fp16", num_steps=1).fixed().precision
    assert fixed.layers == {"norm": "fp32", "stem": "fp32"}
    assert (fixed.mode, fixed.max_skipped) == ("fp16", 7)
    assert fixed.scale <= fixed.scale_cap == 2.0**17
    rehearsed = asked(place, "Plain", precision={"mode": "auto", "emulate": "fp16"})
    assert diagnose_precision(rehearsed, "bf16", num_steps=1).fixed().precision.mode == "bf16"


def test_numbers_are_plain_json(faint: Watched) -> None:
    text = faint.diagnosis.model_dump_json()
    assert PrecisionDiagnosis.model_validate_json(text) == faint.diagnosis
    assert "NaN" not in text and "Infinity" not in text


def test_the_network_of_a_recipe_that_cannot_be_trained_is_refused(place: Path) -> None:
    with pytest.raises(RecipeError, match="warmup"):
        diagnose_precision(asked(place, "Plain", warmup="100ep"), "fp16")


def test_the_steps_that_are_said_are_those_that_were_watched(place: Path) -> None:
    found = diagnose_precision(asked(place, "Plain"), "fp16", num_steps=10)  # six batches are an epoch
    assert found.numbers["head"].output.total == found.diagnosis.num_steps * 16 * 3


@pytest.mark.parametrize("name", ["plain", "faint"])
def test_the_picture_has_a_row_for_each_layer(name: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(name)
    figure = health_figure(found)
    forward, backward = figure.axes
    names = [one.name for one in found.diagnosis.health.layers]
    assert [label.get_text() for label in forward.get_yticklabels()] == names
    assert all("%" in label.get_text() for label in backward.get_yticklabels())
    assert "fp16" in forward.get_title("left")
    with Image.open(BytesIO(to_png(figure))) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 150


def test_types_are_those_of_the_recipe(place: Path) -> None:
    plan, rows = types_of_step(asked(place, "Plain", precision={"mode": "bf16-true", "layers": "head=fp32"}))
    assert plan.settled.precision.mode == "bf16-true"
    found = {row.name: row for row in rows}
    assert list(found) == ["stem", "norm", "act", "head"]
    assert (found["stem"].weights, found["stem"].master, found["stem"].compute) == ("bf16", "fp32", "bf16")
    assert (found["norm"].weights, found["head"].weights, found["head"].compute) == ("fp32", "fp32", "fp32")
    assert found["stem"].state == "fp32"


def test_threads_are_given_back(place: Path) -> None:
    before = torch.get_num_threads()
    types_of_step(asked(place, "Plain", threads=2))
    assert torch.get_num_threads() == before
