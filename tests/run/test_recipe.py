from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from halftone.base.errors import RecipeError
from halftone.base.records import settings, to_yaml
from halftone.cli.flags import nest, recipe_parameters
from halftone.run.recipe import SHORT_NAMES, Recipe, merge, read_recipe


def test_short_forms_mean_the_full_ones() -> None:
    short = Recipe(data="digits", model="resnet50", pretrained=True, lr=0.1, warmup="5ep", decay="linear", l2=0.01)
    full = Recipe(
        data={"source": "digits"},
        model={"name": "resnet50"},
        weights={"pretrained": True},
        optimizer={"lr": 0.1, "l2": 0.01},
        warmup={"length": "5ep"},
        decay={"shape": "linear"},
    )
    assert short == full


def test_short_names_lead_to_settings() -> None:
    known = set(settings(Recipe))
    assert set(SHORT_NAMES.values()) <= known
    assert not set(SHORT_NAMES) & set(Recipe.model_fields)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 1000),
            "seed": st.integers(0, 2**63 - 1),
            "lr": st.floats(1e-9, 1e3),
            "warmup": st.sampled_from(["5ep", "10%", "500it", "none", "auto"]),
            "precision": st.sampled_from(["fp32", "bf16-mixed", "fp16", "auto"]),
            "augment": st.fixed_dictionaries({"resized_crop": st.sampled_from(["0.3,1", "none", "auto"])}),
            "freeze": st.lists(st.sampled_from(["backbone", "features.0.*"]), max_size=2),
        },
    )
)
def test_yaml_and_back(values: dict[str, object]) -> None:
    recipe = Recipe.parse(values)
    assert Recipe.parse(yaml.safe_load(to_yaml(recipe)) or {}) == recipe


def test_flags_cover_every_setting_once() -> None:
    names = [flag for parameter in recipe_parameters() for flag in parameter.annotation.__metadata__[0].name]
    assert len(names) == len(set(names))
    flags = {name.removeprefix("--").replace("-", "_") for name in names}
    leaves = {name for name in settings(Recipe) if not any(other.startswith(f"{name}.") for other in settings(Recipe))}
    assert leaves - flags == {"data.source"}
    assert set(SHORT_NAMES) <= flags


def test_flags_build_the_same_recipe_as_python() -> None:
    typed = {"epochs": "10", "warmup": "5ep", "warmup__shape": "cosine", "optimizer__lr": "0.1", "data__size": "32"}
    wish = Recipe.parse(merge(nest(typed), {"data": {"source": "digits"}}))
    assert wish == Recipe(
        data={"source": "digits", "size": 32}, epochs=10, warmup={"length": "5ep", "shape": "cosine"}, lr=0.1
    )


def test_file_then_changes(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: digits\nwarmup: 5ep\nlr: 1e-3\nepochs: 3\n")
    recipe = read_recipe(file, {"epochs": "7", "warmup": {"shape": "cosine"}})
    assert recipe == Recipe(data="digits", warmup={"length": "5ep", "shape": "cosine"}, lr=0.001, epochs=7)


B1 = [
    ({"learning_rat": 1}, "unknown setting 'learning_rat'", "lr"),
    ({"learning_rate": 1}, "unknown setting 'learning_rate'", "lr"),
    ({"optimizer": {"momentun": 0.9}}, "unknown setting 'optimizer.momentun'", "optimizer.momentum"),
    ({"amp": True}, "unknown setting 'amp'", "precision"),
    ({"epoch": 1}, "unknown setting 'epoch'", "epochs"),
]


@pytest.mark.parametrize(("values", "message", "hint"), B1)
def test_B1_unknown_key(values: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(values)
    assert str(caught.value).startswith(message)
    assert caught.value.hint == f"did you mean '{hint}'?"


B2_B3 = [
    ({"epochs": "ten"}, "epochs = 'ten'"),
    ({"epochs": 0}, "epochs = 0"),
    ({"epochs": -1}, "epochs = -1"),
    ({"epochs": 1.5}, "epochs = 1.5"),
    ({"lr": [1]}, "optimizer.lr = [1]"),
    ({"lr": 0}, "optimizer.lr = 0"),
    ({"lr": float("nan")}, "optimizer.lr = nan"),
    ({"lr": float("inf")}, "optimizer.lr = inf"),
    ({"precision": "yes"}, "precision.mode = 'yes'"),
    ({"precision": False}, "precision.mode = False"),
    ({"batch_size": 0}, "batch_size = 0"),
    ({"warmup": "-1ep"}, "warmup.length = '-1ep'"),
    ({"warmup": "5"}, "warmup.length = '5'"),
    ({"optimizer": {"momentum": 1}}, "optimizer.momentum = 1"),
    ({"data": {"validation": 0}}, "data.validation = 0"),
    ({"data": {"validation": 1}}, "data.validation = 1"),
    ({"size": 0}, "data.size = 0"),
    ({"size": 100000}, "data.size = 100000"),
    ({"label_smoothing": 1}, "loss.label_smoothing = 1"),
    ({"data": {"max_bad": 2}}, "data.max_bad = 2"),
    ({"augment": {"resized_crop": "1,0.3"}}, "augment.resized_crop = '1,0.3'"),
    ({"seed": -1}, "seed = -1"),
    ({"run": {"name": "a/b"}}, "run.name = 'a/b'"),
]


@pytest.mark.parametrize(("values", "start"), B2_B3)
def test_B2_B3_wrong_type_or_out_of_range(values: dict[str, object], start: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(values)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weights": "a.safetensors", "pretrained": True}, "choose one"),
        ({"batch_size": 4, "accumulate": 8}, "a part would be empty"),
        ({"warmup": {"shape": "exponential", "start": 0}}, "starts above zero"),
    ],
)
def test_B4_conflicts(values: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Recipe.parse(values)


def bomb() -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 1\nepochs: 2\n", "stands twice"),
        ("epochs:\t- 1\n\t- 2", "not plain YAML"),
        ("", "must hold a mapping"),
        ("- 1\n- 2\n", "must hold a mapping"),
        ("1: 2\n", "must hold a mapping"),
        ("epochs: 1\n" + "# " + "x" * (2 << 20), "a recipe has at most"),
        (bomb(), "aliases"),
        ("epochs: !!python/object/apply:os.system ['touch canary']", "not plain YAML"),
        ("[" * 5000, "not plain YAML"),
    ],
    ids=["duplicate", "tabs", "empty", "list", "numbers", "large", "B5-bomb", "B6-object", "deep"],
)
def test_B5_B6_hostile_yaml(tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_recipe(file)
    assert not (tmp_path / "canary").exists()


def test_a_fault_of_the_file_is_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("epochs: none\n")
    with pytest.raises(RecipeError, match=r"recipe.yaml: epochs = 'none'"):
        read_recipe(file, {"epochs": "3"})
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "absent.yaml")
