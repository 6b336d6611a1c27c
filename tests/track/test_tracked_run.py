"""One run with all trackers, killed between two checkpoints and gone on with; each store read with its own library."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from halftone.base.tables import read_table
from halftone.run.events import Event, Started
from halftone.run.folder import RunFolder
from halftone.track.tracker import Point
from halftone.track.wandb import WandB

pytestmark = pytest.mark.timeout(600)  # both libraries are slow to import, and MLflow to set up a database

_KILLED = """
import os, signal, sys
import halftone as ht

class Kill:
    def hear(self, event):
        if isinstance(event, ht.events.Notice):
            print(event.text, file=sys.stderr, flush=True)
        if isinstance(event, ht.events.StepTaken) and event.tried == 60:
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self):
        pass

ht.train(
    ht.Recipe(
        data="digits",
        model="plain3",
        precision="fp32",
        epochs=2,
        threads=1,
        run={"name": "one", "track": "wandb,mlflow", "track_every": 10, "track_files": True, "group": "pair",
             "tags": "night,place=here", "project": "figures"},
    ),
    listeners=[Kill()],
)
"""


@dataclass(frozen=True)
class Tracked:
    folder: Path
    store: str
    killed: subprocess.CompletedProcess[str]
    resumed: subprocess.CompletedProcess[str]

    @property
    def results(self) -> list[dict[str, float]]:
        return [{k: float(v) for k, v in row.items() if v} for row in read_table(self.folder / "results.csv")]

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        rows = read_table(self.folder / "steps.csv")
        kept = [row for row in rows if row["tried"] == "1" or int(row["tried"]) % 10 == 0]
        return {int(row["tried"]): {k: float(v) for k, v in row.items() if v} for row in kept}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    root = tmp_path_factory.mktemp("tracked")
    store = f"sqlite:///{root}/mlflow.db"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    own |= {"HOME": str(root), "NETRC": str(root / "none"), "MLFLOW_TRACKING_URI": store}
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "1"}

    def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=root,
            env=own | more,
            text=True,
            capture_output=True,
            timeout=240,
            check=False,
        )

    killed = run("-c", _KILLED, **nowhere)
    resumed = run("-m", "halftone", "train", "--resume", "runs/one")
    return Tracked(root / "runs" / "one", store, killed, resumed)


def test_the_run_is_not_held_up_and_standard_output_is_its_own(tracked: Tracked) -> None:
    assert tracked.killed.returncode == -signal.SIGKILL, tracked.killed.stderr
    assert tracked.resumed.returncode == 0, tracked.resumed.stderr
    assert tracked.killed.stdout == ""
    assert tracked.resumed.stdout == f"{tracked.folder}\n"
    assert "W&B works offline (" in tracked.killed.stderr  # no server
    assert "W&B works offline (nobody is logged in" in tracked.resumed.stderr
    assert "failed and is left out" not in tracked.killed.stderr + tracked.resumed.stderr
    assert len(tracked.results) == 2


def test_D7_wandb_offline_has_the_numbers_of_the_tables(tracked: Tracked) -> None:
    parts = sorted((tracked.folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2  # one from before the kill, of which W&B may have lost the last seconds, and one from after
    assert len({part.name.rpartition("-")[2] for part in parts}) == 1
    said = [record for part in parts for record in records(part)]
    run = next(record["run"] for record in said if record["type"] == "run")
    assert (run["project"], run["run_group"], run["display_name"]) == ("figures", "pair", "one")
    assert set(run["tags"]) == {"night", "place=here"}
    config = run["config"]["update"]
    assert config["asked"]["epochs"] == config["epochs"] == 2
    assert config["optimizer"]["lr"] > 0

    found = {r["history"]["step"]["num"]: r["history"]["item"] for r in said if r["type"] == "history"}
    assert list(found) == [1, 10, 20, 30, 40, 44, 50, 60, 70, 80, 88]
    assert len(found) == sum(record["type"] == "history" for record in said)
    epochs = [{name: row[name] for name in row if "/" not in name and name[0] != "_"} for row in found.values()]
    assert [row for row in epochs if row] == tracked.results
    for tried, row in tracked.steps.items():
        for name in ("loss", "lr", "grad_norm"):
            assert found[tried][f"steps/{name}"] == row[name]
    summary: dict[str, Any] = {}
    for record in said:
        summary |= record["summary"]["update"] if record["type"] == "summary" else {}
    assert summary["best_val_accuracy"] == max(row["val_accuracy"] for row in tracked.results)
    assert [record["artifact"]["type"] for record in said if record["type"] == "artifact"] == ["model"]
    assert said[-1]["exit"].get("exit_code", 0) == 0


def records(part: Path) -> list[dict[str, Any]]:
    """What W&B's own reader finds in the folder of a run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)]
    own = os.environ | {"HOME": str(part), "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    found = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.mark.filterwarnings("ignore")  # of the library's own
def test_wandb_finds_in_its_files_what_it_need_not_be_sent_again(
    events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    started = next(event for event in events if isinstance(event, Started))
    started = replace(started, folder=RunFolder(tmp_path))
    first = WandB()
    opened = first.open(started, None)
    assert opened.last_step == 0
    assert "W&B works offline; send the run later with: wandb sync" in opened.text
    first.log([Point(5, 0.1, {"epoch": 1.0}), Point(7, 0.2, {"steps/loss": 0.5})])
    assert first.leave(finished=False) == ""
    second = WandB()
    again = second.open(started, opened.kept)
    assert again.kept == opened.kept
    assert again.last_step == 7
    second.leave(finished=True)


@pytest.mark.filterwarnings("ignore")  # of the library's own
def test_D7_mlflow_has_the_numbers_of_the_tables(tracked: Tracked) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=tracked.store)
    (run,) = client.search_runs([client.get_experiment_by_name("figures").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "one"
    assert run.data.tags.items() >= {"group": "pair", "night": "true", "place": "here"}.items()
    assert run.data.params.items() >= {"epochs": "2", "asked.epochs": "2", "model.name": "plain3"}.items()

    def course(name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]

    for name in tracked.results[0]:
        assert course(name) == [(44 * int(row["epoch"]), row[name]) for row in tracked.results], name
    for name in ("loss", "lr", "grad_norm"):
        assert course(f"steps/{name}") == [(tried, row[name]) for tried, row in tracked.steps.items()], name
    assert run.data.metrics["best_val_accuracy"] == max(row["val_accuracy"] for row in tracked.results)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"recipe.yaml", "plan.yaml", "confusion_matrix.png", "report.html", "best.safetensors"}


def test_D7_tensorboard_has_the_numbers_of_the_tables(tracked: Tracked) -> None:
    board = EventAccumulator(str(tracked.folder))
    board.Reload()

    def course(tag: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in board.Scalars(tag)]

    for name in tracked.results[0]:
        expected = [(44 * int(row["epoch"]), pytest.approx(row[name], rel=1e-6)) for row in tracked.results]
        assert course(f"epoch/{name}") == expected, name
    for name in ("loss", "lr", "grad_norm"):
        expected = [(tried, pytest.approx(row[name], rel=1e-6)) for tried, row in tracked.steps.items()]
        assert course(f"steps/{name}") == expected, name
