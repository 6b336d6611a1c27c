from pathlib import Path

import pytest

from halftone.base.errors import RecipeError
from halftone.comparison.vary import parse_varied, recipe_of, settings_of, variants_of

DIGITS = {"data": {"source": "digits"}, "epochs": 2}


def test_all_combinations_with_the_first_values_as_the_baseline() -> None:
    variants = variants_of(parse_varied(["precision=fp32,bf16", "warmup=none,1ep,2ep"]), pairs=False)
    assert len(variants) == 6
    assert variants[0].name == "precision=fp32, warmup=none"
    assert variants[-1].changes == {"precision": "bf16", "warmup": "2ep"}


def test_one_change_at_a_time() -> None:
    variants = variants_of(parse_varied(["precision=fp32,bf16", "warmup=none,1ep,2ep"]), pairs=True)
    changed = [{name for name, value in one.changes.items() if variants[0].changes[name] != value} for one in variants]
    assert changed == [set(), {"precision"}, {"warmup"}, {"warmup"}]


def test_values_that_hold_a_comma() -> None:
    assert parse_varied(["augment.resized-crop=0.35,1|0.5,1"]) == {"augment.resized_crop": ("0.35,1", "0.5,1")}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["precision"], "SETTING=VALUE"),
        (["precision=fp32"], "two values or more"),
        (["precision=fp32,"], "two values or more"),
        (["precision=fp32,fp32"], "comes twice"),
        (["lr=1,2", "lr=3,4"], "comes twice"),
        (["seed=0,1"], "--seeds says how many"),
        (["name=a,b"], "cannot be varied"),
        (["run.keep=1,2"], "cannot be varied"),
        (["data=digits,mnist"], "in pairs"),
    ],
)
def test_what_is_no_comparison_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_varied(texts)


def test_nothing_and_far_too_much_are_refused() -> None:
    with pytest.raises(RecipeError, match="nothing to compare"):
        variants_of({}, pairs=False)
    many = {name: [str(value) for value in range(9)] for name in ("a", "b")}
    with pytest.raises(RecipeError, match="81 variants"):
        variants_of(many, pairs=False)
    assert len(variants_of(many, pairs=True)) == 17


def test_a_run_is_the_base_with_a_change_and_a_seed() -> None:
    variants = variants_of(parse_varied(["lr=0.1,0.2", "average.decay=0,0.9"]), pairs=False)
    recipe = recipe_of({**DIGITS, "optimizer": {"name": "sgd", "lr": 5}}, variants[-1], seed=7)
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.average.decay) == ("sgd", 0.2, 0.9)
    assert (recipe.seed, recipe.epochs, recipe.data.source) == (7, 2, "digits")
    assert settings_of(variants) == ("optimizer.lr", "average.decay")


def test_recipe_files_vary_and_flags_win_over_them(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        (tmp_path / f"{name}.yaml").write_text(f"epochs: 9\nlr: {lr}\n")
    variants = variants_of(parse_varied([f"recipe={tmp_path}/a.yaml,{tmp_path}/b.yaml"]), pairs=False)
    found = [recipe_of(DIGITS, variant, seed=0) for variant in variants]
    assert [recipe.optimizer.lr for recipe in found] == [0.1, 0.2]
    assert [recipe.epochs for recipe in found] == [2, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [("precison=fp32,bf16", "precison"), ("precision=fp32,fp31", "fp31"), ("warmup=1ep,much", "much")],
)
def test_a_fault_names_the_variant_and_helps(text: str, said: str) -> None:
    variants = variants_of(parse_varied([text]), pairs=False)
    with pytest.raises(RecipeError, match=f"--vary .*{said}") as caught:
        recipe_of(DIGITS, variants[1], seed=0)
    assert caught.value.hint or said == "much"
