"""The mean and deviation of the pixels: asked, known from the weights, or measured."""

from pathlib import Path
from typing import Any

import pytest

from halftone.base.errors import RecipeError
from halftone.run.plan.make import make_plan
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from samples import write_npz


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("normalisation") / "tiny.npz")


def planned(source: Path, **data: Any) -> Plan:
    values = {"data": {"source": str(source), **data}, "model": "cifar_resnet8", "precision": "fp32", "threads": 1}
    return make_plan(Recipe.parse({**values, "batch_size": 16, "epochs": 1})).plan


def note(plan: Plan) -> tuple[str, str]:
    return next((choice.value, choice.reason) for choice in plan.choices if choice.setting == "normalisation")


@pytest.mark.parametrize("text", [False, True])
def test_what_is_asked_is_taken(tiny: Path, text: bool) -> None:
    asked = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    data = {name: ",".join(map(str, value)) for name, value in asked.items()} if text else asked
    plan = planned(tiny, **data)
    assert (plan.input.mean, plan.input.std) == (asked["mean"], asked["std"])
    assert note(plan) == ("mean 0.100 0.200 0.300, deviation 0.400 0.500 0.600", "asked")


@pytest.mark.parametrize("value", [0.25, "0.25", (0.25,)])
def test_one_number_counts_for_all_channels(tiny: Path, value: Any) -> None:
    assert planned(tiny, mean=value, std=value).input.mean == (0.25,) * 3


def test_one_of_both_leaves_the_other_to_the_plan(tiny: Path) -> None:
    measured, plan = planned(tiny), planned(tiny, mean=0.5)
    assert plan.input.mean == (0.5,) * 3
    assert plan.input.std == measured.input.std
    assert note(plan)[1] == "one of both asked, the other measured on 96 training images"
    assert note(measured)[1] == "measured on 96 training images"


def test_the_settled_recipe_says_it(tiny: Path) -> None:
    plan = planned(tiny)
    assert (plan.settled.data.mean, plan.settled.data.std) == (plan.input.mean, plan.input.std)


def test_weights_of_a_library_bring_theirs_unless_others_are_asked(tiny: Path, tmp_path: Path) -> None:
    values = {"model": "squeezenet1_1", "weights": {"file": tmp_path / "absent.pt"}, "precision": "fp32", "threads": 1}
    native = make_plan(Recipe.parse({"data": {"source": str(tiny), "size": 32}, **values})).plan
    assert native.input.mean == (0.485, 0.456, 0.406)
    other = {"source": str(tiny), "size": 32, "mean": 0.5, "std": 0.5}
    assert make_plan(Recipe.parse({"data": other, **values})).plan.input.mean == (0.5,) * 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mean": "0.5,0.5"}, "data.mean = '0.5,0.5': it must be auto, or one number"),
        ({"mean": "imagenet"}, "data.mean"),
        ({"mean": 127}, "one number from 0 to 1"),
        ({"std": -0.1}, "data.std"),
        ({"std": "0,1,1"}, "must not be 0"),
        ({"std": float("nan")}, "data.std"),
        ({"mean": None}, "data.mean"),
    ],
)
def test_wrong_numbers_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse({"data": {"source": "digits", **data}})
    assert words in str(caught.value)


def test_three_numbers_for_one_channel_are_refused(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="mean has 3 numbers, and the pictures have one channel"):
        planned(tiny, mean=(0.1, 0.2, 0.3), channels=1)
