"""Flags made from the recipe: names, kinds, choices, defaults, and the tree that comes out."""

import pytest

from halftone.base.records import settings
from halftone.cli.flags import nest, recipe_parameters
from halftone.cli.main import main
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
