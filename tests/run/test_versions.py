"""What a newer major version wrote is refused by both names; older files are read."""

from pathlib import Path
from typing import Any

import pytest

from halftone.base.errors import RecipeError
from halftone.cli.main import main
from halftone.run.folder import RunFolder
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe, read_recipe
from halftone.version import __version__
from samples import wish, write_npz


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """The folder of a run that has only been planned."""
    plan = make_plan(wish(write_npz(tmp_path / "tiny.npz"), tmp_path, lr=0.1)).plan
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_plan(plan, {})
    return folder


def test_B8_a_recipe_says_its_version_and_older_ones_need_not(run: RunFolder, tmp_path: Path) -> None:
    assert run.recipe.read_text().startswith(f"halftone: {__version__}\n")
    assert read_recipe(run.recipe) == run.read_plan().asked
    plain = tmp_path / "plain.yaml"
    plain.write_text("epochs: 3\n")
    assert read_recipe(plain) == Recipe(epochs=3)
    plain.write_text("halftone: 0.0.1\nepochs: 3\n")
    assert read_recipe(plain) == Recipe(epochs=3)


@pytest.mark.parametrize("written", ["99.1.0", "99", 99])
@pytest.mark.parametrize("command", ["train --recipe recipe.yaml", "train --resume run", "evaluate run", "report run"])
def test_B8_what_a_newer_major_version_wrote_is_refused_by_both_names(
    run: RunFolder,
    tmp_path: Path,
    command: str,
    written: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    newer = f"halftone: {written}\na_setting_of_the_future: 1\n"
    (tmp_path / "recipe.yaml").write_text(newer + "data: digits\n")
    run.plan.write_text(newer)
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert f"was written by halftone {written}, and this is {__version__}" in said
    assert "pip install 'halftone>=99'" in said
    assert "Traceback" not in said


def test_B8_a_version_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("halftone: latest\n")
    with pytest.raises(RecipeError, match="halftone = 'latest': it must be a version"):
        read_recipe(tmp_path / "odd.yaml")
