"""Flags made from the recipe: names, kinds, choices, defaults, and the tree that comes out."""

import pytest

from halftone.base.records import settings
from halftone.cli.flags import nest, recipe_parameters
from halftone.cli.main import app, main
from halftone.run.recipe import SHORT_NAMES, Recipe


def test_every_setting_has_a_flag() -> None:
    names = {name for parameter in recipe_parameters() for name in parameter.annotation.__metadata__[0].name}
    for setting in settings(Recipe):
        nested = any(other.startswith(f"{setting}.") for other in settings(Recipe))
        if setting != "data.source" and not nested:
            assert f"--{setting.replace('_', '-')}" in names, setting
    assert {f"--{short.replace('_', '-')}" for short in SHORT_NAMES} <= names


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_names_kinds_choices_and_defaults(help_text: str) -> None:
    lines = {line.split()[1]: " ".join(line.split()) for line in help_text.splitlines() if line.startswith("│ --")}
    assert "--epochs INT" in lines["--epochs"]
    assert "--warmup LENGTH" in lines["--warmup"]
    assert "--weights PATH" in lines["--weights"]
    assert lines["--lr"].startswith("│ --lr --optimizer.lr NUMBER The peak learning rate. auto: by rule, checked")
    assert "One of linear, cosine, sqrt. [sqrt]" in " ".join(help_text.replace("│", " ").split())
    assert "One of" not in lines["--optimizer"]  # its text names them
    assert "[yes]" in " ".join(help_text.replace("│", " ").split()).partition("--no-keep-memory")[2][:120]


def test_a_bare_flag_of_a_room_without_a_short_form_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--loss", "1"]) == 2
    assert "--loss" in capsys.readouterr().err


def test_what_was_typed_becomes_a_tree() -> None:
    assert nest({"warmup": "5ep", "warmup__shape": "cosine", "epochs": "3", "optimizer__lr": "0.1"}) == {
        "warmup": {"length": "5ep", "shape": "cosine"},
        "epochs": "3",
        "optimizer": {"lr": "0.1"},
    }


@pytest.mark.parametrize("number", [1, 3])
def test_choices_among_numbers_are_read_from_text(number: int) -> None:
    assert Recipe.parse({"data": {"source": "digits", "channels": str(number)}}).data.channels == number


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (["--model.compile"], True),
        (["--model.compile", "--epochs", "2"], True),
        (["--no-model.compile"], False),
        (["--model.compile", "auto"], "auto"),
        (["--model.compile=auto"], "auto"),
        (["--model.compile", "false"], False),
        (["--model.compile=yes"], True),
        ([], False),
    ],
)
def test_a_switch_that_knows_auto_is_bare_negated_or_has_a_value(typed: list[str], value: object) -> None:
    _, bound, _ = app.parse_args(["train", "digits", *typed], exit_on_error=False, print_error=False)
    given = {name: text for name, text in bound.kwargs.items() if name in {"model__compile", "epochs"}}
    recipe = Recipe.parse(nest({name: text for name, text in given.items() if text is not None}))
    assert recipe.model.compile == value
    assert bound.arguments["data"] == "digits"


def test_a_switch_that_is_neither_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "digits", "--model.compile", "atuo"]) == 2
    complaint = capsys.readouterr().err.splitlines()
    assert complaint == [
        "error: model.compile = 'atuo': it must be yes or no, or 'auto'",
        "hint: did you mean 'auto'?",
    ]
