"""What every tracker does with the stream, shown on one that keeps everything in a list."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from halftone.base.errors import RecipeError, ResourceError
from halftone.base.tables import read_table
from halftone.loop.events import EpochDone, StepTaken
from halftone.run.events import CheckpointSaved, Event, Finished, Notice, Started
from halftone.run.folder import RunFolder
from halftone.run.recipe import Recipe
from halftone.track.fan import told
from halftone.track.mlflow import anchored, parameters
from halftone.track.tables import Tables
from halftone.track.tracker import Kept, Opened, Point, Tracker, description
from halftone.verbs import train
from samples import write_npz


class Listing(Tracker):
    """A tracker that fails from a certain call to `log` on."""

    name = "listing"

    def __init__(self, *, fails_at: int | None = None, has: int = 0) -> None:
        super().__init__()
        self.has = has
        self.kept: Kept | None = None
        self.points: list[Point] = []
        self.calls = 0
        self.summary: dict[str, float] = {}
        self.files: list[str] = []
        self.left: list[bool] = []
        self._fails_at = fails_at

    def open(self, started: Started, kept: Kept | None) -> Opened:
        self.kept = kept
        return Opened(kept or Kept(run="first"), self.has, "open")

    def log(self, points: list[Point]) -> None:
        self.calls += 1
        if self.calls == self._fails_at:
            raise ConnectionError("the server is gone")
        self.points += points

    def summarise(self, numbers: Mapping[str, float]) -> None:
        self.summary = dict(numbers)

    def store(self, files: list[Path]) -> None:
        self.files = [file.name for file in files]

    def leave(self, *, finished: bool) -> str:
        self.left.append(finished)
        return ""


def placed(events: list[Event], path: Path, **run: object) -> list[Event]:
    """The events of a run, as if it lay in another folder."""
    path.mkdir(exist_ok=True)
    moved: list[Event] = []
    for event in events:
        if isinstance(event, Started):
            settled = event.plan.settled
            plan = event.plan.replaced(settled=settled.replaced(run=settled.run.replaced(**run)))
            moved.append(replace(event, folder=RunFolder(path), plan=plan))
        else:
            moved.append(replace(event, folder=RunFolder(path)) if isinstance(event, Finished) else event)
    return moved


def upto(events: list[Event], tried: int) -> list[Event]:
    """The events of a run that ended after a step."""
    last = next(i for i, event in enumerate(events) if isinstance(event, StepTaken) and event.tried == tried)
    return events[: last + 1]


def going_on(events: list[Event], tried: int, epoch: int) -> list[Event]:
    """The events of a run that goes on from a checkpoint."""
    after = next(i for i, event in enumerate(events) if isinstance(event, CheckpointSaved) and event.tried == tried)
    started = next(event for event in events if isinstance(event, Started))
    return [replace(started, tried=tried, epoch=epoch), *events[after + 1 :]]


def hears(events: list[Event], tracker: Tracker) -> list[str]:
    stream = told(events, [Tables(), tracker])
    return [event.text for event in stream if isinstance(event, Notice)]


def rows(points: list[Point]) -> list[dict[str, float]]:
    """The rows of results.csv as they arrived."""
    found = [{k: v for k, v in point.numbers.items() if "/" not in k} for point in points if "epoch" in point.numbers]
    assert [point.tried for point in points] == sorted({point.tried for point in points})
    return found


def table(path: Path) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items() if v} for row in read_table(path / "results.csv")]


def test_points_are_the_rows_of_the_tables_and_arrive_with_checkpoints(events: list[Event], tmp_path: Path) -> None:
    tracker, moved = Listing(), placed(events, tmp_path, track_every=5)
    assert "open" in hears(moved, tracker)
    assert rows(tracker.points) == table(tmp_path)
    assert [point.tried for point in tracker.points] == [1, 5, 6, 10, 12]
    steps = read_table(tmp_path / "steps.csv")
    for point in tracker.points:
        if "steps/loss" in point.numbers:
            assert point.numbers["steps/loss"] == float(steps[point.tried - 1]["loss"])
    assert tracker.points[0].numbers["steps/skipped_steps"] == 0
    assert tracker.calls == 2  # one per checkpoint after an epoch
    best = max(table(tmp_path), key=lambda row: row["val_accuracy"])
    assert tracker.summary["best_val_accuracy"] == best["val_accuracy"]
    assert tracker.summary["best_epoch"] == next(event for event in events if isinstance(event, Finished)).best_epoch
    assert tracker.left[0] is True
    assert tracker.files == []


def test_a_killed_run_sends_each_point_once(events: list[Event], tmp_path: Path) -> None:
    first, moved = Listing(), placed(events, tmp_path, track_every=1)
    tables = Tables()
    for event in upto(moved, 9):  # killed: nobody closes the tracker
        tables.hear(event)
        first.hear(event)
    tables.close()
    assert [point.tried for point in first.points] == list(range(1, 7))
    second = Listing(has=6)
    hears(going_on(moved, 6, 1), second)
    assert second.kept == Kept(run="first")
    assert [point.tried for point in first.points + second.points] == list(range(1, 13))
    assert rows(first.points + second.points) == table(tmp_path)


def test_a_run_that_ends_in_an_error_shows_its_last_steps_and_sends_none_twice(
    events: list[Event], tmp_path: Path
) -> None:
    first, moved = Listing(), placed(events, tmp_path, track_every=1)
    hears(upto(moved, 9), first)
    assert [point.tried for point in first.points] == list(range(1, 10))
    assert first.left == [False]
    second = Listing(has=9)
    hears(going_on(moved, 6, 1), second)
    assert [point.tried for point in second.points] == [10, 11, 12]


def test_a_tracker_that_fails_is_left_out_and_catches_up_when_the_run_goes_on(
    events: list[Event], tmp_path: Path
) -> None:
    first, moved = Listing(fails_at=2), placed(events, tmp_path, track_every=1)
    said = hears(moved, first)
    assert any("Listing failed and is left out from here on: the server is gone" in text for text in said)
    assert [event.epoch for event in moved if isinstance(event, EpochDone)] == [1, 2]  # the run went on
    assert first.left == [False]
    assert first.calls == 2  # and is not tried again at the end
    second = Listing(has=6)
    hears(going_on(moved, 12, 2), second)
    assert [point.tried for point in second.points] == list(range(7, 13))


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_said_before_training_starts(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    wish = Recipe(
        data=str(write_npz(tmp_path / "tiny.npz")),
        model="cifar_resnet8",
        precision="fp32",
        run={"root": tmp_path / "runs", "track": package},
    )
    with pytest.raises(ResourceError, match=f"needs the package '{package}'") as caught:
        train(wish)
    assert caught.value.hint == f'pip install "halftone[{package}]"'
    assert caught.value.exit_code == 6
    assert not (tmp_path / "runs").exists()


def test_the_settings_are_read_from_text_and_a_password_is_refused() -> None:
    run = Recipe(run={"track": "mlflow, wandb,mlflow", "tags": "night,photos"}).run
    assert run.track == ("mlflow", "wandb")
    assert run.tags == ("night", "photos")
    assert Recipe(run={"track": "none"}).run.track == ()
    with pytest.raises(RecipeError, match=r"run\.track") as caught:
        Recipe.parse({"run": {"track": "wandbb"}})
    assert "wandb" in caught.value.hint
    with pytest.raises(RecipeError, match="MLFLOW_TRACKING_PASSWORD"):
        Recipe.parse({"run": {"tracking_uri": "https://me:secret@example.org"}})


def test_parameters_have_dotted_names_and_fit_every_server(events: list[Event]) -> None:
    plan = next(event for event in events if isinstance(event, Started)).plan
    found = dict(parameters(description(plan) | {"long": "x" * 600}))
    assert found["model.name"] == found["asked.model.name"] == "cifar_resnet8"
    assert found["epochs"] == "2"
    assert "asked.optimizer.lr" not in found
    assert float(found["optimizer.lr"]) == plan.settled.optimizer.lr
    assert found["plan.total_steps"] == "12"
    assert found["long"] == "x" * 497 + "..."


def test_a_local_store_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert anchored("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert anchored("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
    assert anchored("mlruns") == f"file://{tmp_path}/mlruns"
    assert anchored("https://example.org") == "https://example.org"
    assert anchored("databricks") == "databricks"
