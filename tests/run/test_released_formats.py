"""D23: runs of every format that was ever written are read; what a later version wrote is refused by name.

`released/` keeps a stopped run of each format: ten classes of digits, a linear layer, two checkpoints. A change of the
format adds a folder, and changes none.
"""

import json
import shutil
from pathlib import Path

import pytest
from torch import nn

from halftone.base.errors import ModelFileError, NewerFormat, RecipeError
from halftone.base.tables import read_table
from halftone.report.history import read_history
from halftone.run.checkpoint import checkpoints, load_newest
from halftone.run.folder import RunFolder
from halftone.run.inference import evaluate_run
from halftone.run.model_file import load_model
from halftone.run.weight_files import open_weights
from halftone.verbs import resume
from halftone.version import __version__
from halftone.weights import files
from halftone.weights.files import FORMAT, load_sealed, save_sealed

RELEASED = Path(__file__).parent / "released"
FORMATS = sorted(path.name for path in RELEASED.iterdir())


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(RELEASED / request.param, tmp_path / "run")))


def test_D23_there_is_a_run_of_each_format() -> None:
    assert [f"format-{number}" for number in range(1, FORMAT + 1)] == FORMATS
    for name in FORMATS:
        path = RELEASED / name / "best.safetensors"
        assert json.loads(json.loads(files._raw_header(path))["__metadata__"]["halftone"])["format"] == int(name[7:])


@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_D23_a_run_of_an_earlier_format_goes_on_and_is_read(folder: RunFolder) -> None:
    before = {path: path.read_bytes() for path in (folder.best, folder.recipe, folder.environment)}
    card = load_model(folder.best, network()).card
    assert (card.epoch, card.step, len(card.classes)) == (1, 5, 10)
    found = evaluate_run(folder.path, model=network())
    assert found.metrics.accuracy == pytest.approx(card.accuracy, abs=0.003)  # one image of 359, on another machine
    assert open_weights(checkpoints(folder.checkpoints)[0]).step == 9
    assert read_history(folder).best_epoch == 1
    resume(folder.path, model=network())
    assert [int(row["step"]) for row in read_table(folder.steps)] == list(range(1, 11))
    assert [int(row["epoch"]) for row in read_table(folder.results)] == [1, 2]
    assert load_newest(folder.checkpoints)[0]["progress"]["step"] == 10
    for path, content in before.items():
        assert path == folder.best or path.read_bytes() == content


def written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal a file again as a later version would."""
    stored = load_sealed(path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT", FORMAT + 1)
        patch.setattr(files, "__version__", "9.8.7")
        save_sealed(path, stored.tensors, stored.header)


SAID = rf"has format {FORMAT + 1}, made by halftone 9\.8\.7; this is halftone {__version__}, which reads up to {FORMAT}"


@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_D23_a_model_of_a_later_version_is_refused_by_name(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    written_later(folder.best, monkeypatch)
    for read in (lambda path: load_model(path, network()), open_weights):
        with pytest.raises(NewerFormat, match=SAID) as caught:
            read(folder.best)
        assert (caught.value.exit_code, caught.value.hint) == (4, "update halftone")


@pytest.mark.parametrize("folder", FORMATS, indirect=True)
def test_D23_a_checkpoint_of_a_later_version_is_never_passed_over(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrong with it: a run that went on with the one before would remove it."""
    newest = checkpoints(folder.checkpoints)[0]
    written_later(newest, monkeypatch)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(NewerFormat, match=SAID):
        resume(folder.path, model=network())
    (folder.path / ".lock").unlink()
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_D23_a_plan_of_a_later_version_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(RELEASED / FORMATS[-1], tmp_path / "run")))
    folder.plan.write_text(folder.plan.read_text().replace("halftone: 0.1.0", "halftone: 9.8.7\nsurprise: 1"))
    with pytest.raises(RecipeError, match=r"written by halftone 9\.8\.7") as caught:
        folder.read_plan()
    assert __version__ in str(caught.value)
    assert caught.value.exit_code == 2
    folder.plan.write_text(folder.plan.read_text().replace("halftone: 9.8.7", "halftone: 0.0.9"))
    with pytest.raises(ModelFileError, match=rf"surprise.*made by halftone 0.0.9; this is {__version__}"):
        folder.read_plan()
