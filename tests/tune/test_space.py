"""Search spaces: what can be written, what is refused and how, and that all that is drawn is allowed."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halftone.base.errors import RecipeError
from halftone.base.lengths import Span
from halftone.run.recipe import Recipe
from halftone.tune.space import Choices, Range, Space, parse_space, split_space

BASE = Recipe(data="digits")


def one(name: str, text: str, recipe: Recipe = BASE) -> Any:
    (dimension,) = parse_space({name: text}, recipe).dimensions
    return dimension


def test_each_form_is_read() -> None:
    space = parse_space(
        {
            "lr": "log:1e-4..1",
            "label-smoothing": "uniform:0..0.2",
            "epochs": "int:3..10",
            "warmup": "none, 5%,10%",
            "decay.end": "uniform:0..0.5",
        },
        BASE,
    )
    assert space.dimensions == (
        Range(name="lr", setting="optimizer.lr", kind="log", low=1e-4, high=1),
        Range(name="label_smoothing", setting="loss.label_smoothing", kind="uniform", low=0, high=0.2),
        Range(name="epochs", setting="epochs", kind="int", low=3, high=10),
        Choices(name="warmup", setting="warmup.length", values=("none", "5%", "10%")),
        Range(name="decay.end", setting="decay.end", kind="uniform", low=0, high=0.5),
    )
    assert parse_space(space.texts(), BASE) == space


@pytest.mark.parametrize("name", ["l2", "optimizer.l2"])
def test_a_setting_has_one_name_however_it_is_called(name: str) -> None:
    assert one(name, "log:1e-6..1e-2").name == "l2"


@pytest.mark.parametrize("name", ["precision", "precision.mode"])
def test_a_room_stands_for_its_main_setting(name: str) -> None:
    assert one(name, "fp32,bf16") == Choices(name="precision", setting="precision.mode", values=("fp32", "bf16"))


def test_values_with_commas_are_separated_by_bars() -> None:
    found = one("augment.resized-crop", "0.35,1|0.5,1")
    assert found.values == ("0.35,1", "0.5,1")
    assert str(found) == "0.35,1|0.5,1"


def test_a_length_may_be_a_range() -> None:
    found = one("warmup", "uniform:0%..20%")
    assert found.unit == "%"
    assert found.text(7.123456) == "7.1235%"
    assert found.text(1e-7) == "0%"
    assert one("warmup", "int:1ep..3ep").text(2) == "2ep"
    assert one("warmup", "uniform:0..20%") == found


WRONG = [
    ("lr", "log:0..1", "must be above 0"),
    ("lr", "log:1..0.1", "must be below"),
    ("lr", "0.1..1", "a range is uniform:LOW..HIGH"),
    ("lr", "normal:0..1", "a range is uniform:LOW..HIGH"),
    ("lr", "log:-1..1", "must be above 0"),
    ("lr", "0.1,-0.1", "optimizer.lr = '-0.1'"),
    ("lr", "log:1e-3..1e9", "optimizer.lr = '1000000000.0': it must be less than or equal to"),
    ("lr", "0.1", "one value is no choice"),
    ("lr", "", "optimizer.lr = ''"),
    ("lr", "0.1,1e-1", "1e-1 stands there twice"),
    ("learning_rate", "0.1,1", "unknown setting 'learning_rate'"),
    ("optimizer.rate", "0.1,1", "unknown setting 'optimizer.rate'"),
    ("loss", "0.1,1", "holds several settings"),
    ("epochs", "uniform:1..5", "epochs = "),
    ("epochs", "int:0..5", "epochs = '0'"),
    ("epochs", "int:1.5..5", "must be whole numbers"),
    ("warmup", "uniform:0%..20it", "both ends need one unit"),
    ("warmup", "uniform:0..20", "warmup.length"),
    ("warmup", "5,10", "warmup.length = '5'"),
    ("precision", "fp32,fp61", "precision.mode = 'fp61'"),
    ("run.name", "a,b", "cannot be searched"),
    ("data.validation", "0.1,0.2", "cannot be searched"),
    ("stop.metric", "loss,accuracy", "cannot be searched"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), WRONG)
def test_what_is_wrong_is_said_in_one_line(name: str, text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_space({name: text}, BASE)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"space {name} = {text}: ")
    assert "\n" not in str(caught.value)


def test_a_misspelled_setting_has_a_hint() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_space({"learning_rate": "0.1,1"}, BASE)
    assert "lr" in caught.value.hint


def test_twice_and_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="lr is searched twice"):
        parse_space({"lr": "log:0.1..1", "optimizer.lr": "0.1,1"}, BASE)
    with pytest.raises(RecipeError, match="there is nothing to search"):
        parse_space({}, BASE)
    with pytest.raises(RecipeError, match="must be SETTING=VALUES"):
        split_space(["lr"])
    with pytest.raises(RecipeError, match="lr is searched twice"):
        split_space(["lr=0.1,1", "lr=1,2"])
    assert split_space(["lr=log:1e-4..1", "model=a=b,c"]) == {"lr": "log:1e-4..1", "model": "a=b,c"}


def test_values_are_laid_over_the_recipe() -> None:
    recipe = Recipe(data="digits", epochs=4, optimizer={"name": "adamw"}, lr=0.5)
    space = parse_space({"lr": "log:1e-4..1", "warmup": "none,10%", "l2": "0.1,auto"}, recipe)
    found = space.applied(recipe, {"lr": "0.01", "warmup": "10%", "l2": "auto"})
    assert found.optimizer.lr == 0.01
    assert found.optimizer.name == "adamw"
    assert found.warmup.length == Span(10, "%")
    assert found.epochs == 4
    assert space.applied(recipe, {}) == recipe


def test_the_place_of_the_defaults() -> None:
    space = parse_space({"lr": "log:1e-4..1", "warmup": "none,10%", "l2": "0.1,auto"}, BASE)
    assert space.located(BASE) is None  # the rate is auto
    assert space.located(Recipe(lr=0.3, warmup="10%")) == {"lr": 0.3, "warmup": "10%", "l2": "auto"}
    assert space.located(Recipe(lr=3, warmup="10%")) is None
    lengths = parse_space({"warmup": "uniform:0%..20%", "epochs": "int:3..10"}, BASE)
    assert lengths.located(Recipe(warmup="5%", epochs=4)) == {"warmup": 5.0, "epochs": 4}
    assert lengths.located(Recipe(warmup="none", epochs=4)) == {"warmup": 0.0, "epochs": 4}
    assert lengths.located(Recipe(warmup="5ep", epochs=4)) is None


def test_a_grid_has_every_point_once() -> None:
    space = parse_space({"epochs": "int:3..5", "warmup": "none,10%"}, BASE)
    points = space.grid()
    assert len(points) == 6
    assert {(point["epochs"], point["warmup"]) for point in points} == {
        (epochs, warmup) for epochs in (3, 4, 5) for warmup in ("none", "10%")
    }


def test_a_grid_over_a_range_has_a_hint_that_works() -> None:
    with pytest.raises(RecipeError, match="a grid needs values") as caught:
        parse_space({"lr": "log:1e-4..1"}, BASE).grid()
    word = caught.value.hint.removeprefix("--space ")
    assert len(parse_space(split_space([word]), BASE).grid()) == 3


def test_a_huge_grid_is_refused() -> None:
    with pytest.raises(RecipeError, match="at most 10,000"):
        parse_space({"epochs": "int:1..200", "batch_size": "int:1..100"}, BASE).grid()


@given(st.sampled_from(["uniform", "log"]), st.floats(1e-7, 9), st.floats(1e-7, 9), st.floats(0, 1))
def test_whatever_is_drawn_is_in_the_range_and_allowed(kind: str, low: float, high: float, share: float) -> None:
    assume(low < high)
    found = one("l2", f"{kind}:{low!r}..{high!r}")
    drawn = low * math.exp(share * math.log(high / low)) if kind == "log" else low + share * (high - low)
    text = found.text(min(max(drawn, low), high))
    assert low <= float(text) <= high
    assert abs(float(text) - drawn) <= 6e-4 * drawn
    assert Space(dimensions=(found,)).applied(BASE, {"l2": text}).optimizer.l2 == float(text)


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_range_of_whole_numbers_is_read_as_it_is_written(low: int, high: int) -> None:
    assume(low < high)
    found = one("epochs", f"int:{low}..{high}")
    assert str(found) == f"int:{low}..{high}"
    assert found.text(low) == str(low)
    assert [point["epochs"] for point in Space(dimensions=(found,)).grid()] == list(range(low, high + 1))
