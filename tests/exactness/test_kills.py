"""Processes that are killed, at random moments and at every point of a save, and go on: all ends are the same."""

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from killing import Deaths, Victim, damage, shown

from forked import Forks
from halftone.base.crash import VARIABLE
from halftone.exactness.ends import differences
from halftone.run.checkpoint import checkpoints
from halftone.run.folder import RunFolder
from halftone.run.recipe import Recipe
from samples import wish, write_folder, write_npz

_FP16 = {"emulate": "fp16", "scale_interval": 3, "scale": 2.0**20}
MODES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "lr": 0.05},
    "fp32, accumulated, averaged": {"precision": "fp32", "accumulate": 4, "average": 0.9, "optimizer": "adamw"},
    "bf16": {"precision": "bf16", "average": 0.9, "optimizer": "adamw"},
    "bf16, accumulated": {"precision": "bf16", "accumulate": 4, "augment": {"policy": "strong", "mixup": 0.2}},
    "fp16 rehearsed, scaled": {"precision": _FP16, "model": {"name": "cnn", "dropout": 0.3}},
    "fp16 rehearsed, scaled, accumulated, averaged": {"precision": _FP16, "accumulate": 4, "average": 0.9},
}
WORKERS = {"none": (0, 0), "two": (2, 2), "changing": (2, 0)}


def recipe_of(source: Path, root: Path, **settings: Any) -> Recipe:
    run = {"checkpoint_every": "2it", **settings.pop("run", {})}
    values: dict[str, Any] = {"batch_size": 12, "lr": 0.02, "warmup": "3it", "run": {"fit_images": 0, **run}}
    return wish(source, root, **{**values, **settings})


def victim(children: Forks, recipe: Recipe, place: Path, deaths: Deaths | None = None) -> Victim:
    place.mkdir(parents=True)
    return Victim(children, recipe, place, place / "log.txt", deaths or Deaths())


def test_D1_killed_five_times_at_random_and_three_times_in_an_epoch(children: Forks, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "set", train=72, size=12)
    settings = MODES["bf16"] | {"data": {"feed": "streaming", "workers": 2}, "augment": {"resized_crop": "0.5,1"}}
    killed = victim(children, recipe_of(data, tmp_path, epochs=3, **settings), tmp_path / "runs")
    straight = killed.train_straight()
    killed.kill("killed", ["clock", "save", "clock", "step", "clock"], random.Random(7), workers=(2, 0))
    assert killed.deaths.total == 5
    assert killed.begin("twice", crash_at="8+0") == -signal.SIGKILL, shown(killed.log)
    for step in (9, 11):  # of the same epoch, whose steps are 7 to 12
        assert killed.go_on("twice", crash_at=f"{step}+0") == -signal.SIGKILL, shown(killed.log)
    assert killed.go_on("twice") == 0, shown(killed.log)
    assert list(differences(straight, RunFolder(killed.root / "twice"))) == []


def started(killed: Victim, *, step: int) -> RunFolder:
    """A run that died in the middle of a step."""
    assert killed.begin("died", crash_at=f"{step}+0") == -signal.SIGKILL, shown(killed.log)
    return RunFolder(killed.root / "died")


def copy_of(folder: RunFolder, name: str) -> RunFolder:
    place = folder.path.with_name(name)
    shutil.rmtree(place, ignore_errors=True)
    return RunFolder(Path(shutil.copytree(folder.path, place)))


def test_D2_D14_D31_every_crash_point_of_a_save_leaves_a_run_that_ends_the_same(
    children: Forks, tmp_path: Path
) -> None:
    """With one checkpoint kept: the new one must be durable before the old one goes. No lock outlives its holder."""
    data = write_npz(tmp_path / "tiny.npz", train=72, size=8)
    recipe = recipe_of(data, tmp_path, max_steps=5, run={"keep": 1}, model={"name": "plain4"})
    killed = victim(children, recipe, tmp_path / "runs")
    straight, died = killed.train_straight(), started(killed, step=4)
    assert [path.name for path in checkpoints(died.checkpoints)] == ["step-000000002.safetensors"]
    found, count = [], 0
    while not found or found[-1] != ["step-000000004.safetensors"]:
        count += 1
        folder = copy_of(died, "copy")
        assert killed.go_on("copy", crash_at=f"4+{count}") == -signal.SIGKILL, shown(killed.log)
        found.append(sorted(path.name for path in folder.checkpoints.iterdir()))
        assert killed.go_on("copy") == 0, shown(killed.log)
        assert list(differences(straight, folder)) == [], count
        assert not list(folder.path.rglob("*.tmp"))
    old, new = "step-000000002.safetensors", "step-000000004.safetensors"
    assert [old] in found
    assert [f".{new}.tmp", old] in found
    assert [old, new] in found
    assert len(found) >= 12


def test_D15_D18_neither_clocks_nor_names_but_step_numbers_decide(children: Forks, tmp_path: Path) -> None:
    """The clock has jumped, so that old files look new; the newest one is damaged, too."""
    import os

    data = write_npz(tmp_path / "tiny.npz", train=72, size=8)
    recipe = recipe_of(data, tmp_path, epochs=2, run={"keep": 9}, model={"name": "plain4"})
    killed = victim(children, recipe, tmp_path / "runs")
    straight, died = killed.train_straight(), started(killed, step=8)
    newest_first = checkpoints(died.checkpoints)
    assert [int(path.stem.removeprefix("step-")) for path in newest_first] == [6, 4, 2, 0]
    for age, path in enumerate(newest_first):
        os.utime(path, (age * 1e9, age * 1e9))
    newest_first[1].rename(died.checkpoints / "step-4.safetensors")  # as text, later than all
    damage(newest_first[0], random.Random(0))
    assert killed.go_on("died", patch="test_kills:jump_the_clock") == 0, shown(killed.log)
    assert "step-000000006.safetensors" in shown(killed.log)
    assert "resumed from step-4.safetensors" in shown(killed.log)
    assert list(differences(straight, died)) == []
    seconds = [float(line.split(",")[9]) for line in died.steps.read_text().splitlines()[1:]]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 60


def jump_the_clock() -> None:
    """Let each look at the clock on the wall go back by an hour."""
    import itertools
    import time

    hours = itertools.count()
    now = time.time()
    time.time = lambda: now - 3600 * next(hours)


@pytest.mark.slow
def test_D1_D2_D17_fifty_kills_in_every_mode(children: Forks, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "set", train=96, size=12)
    deaths, chance = Deaths(), random.Random(20)
    for number, (name, mode) in enumerate(MODES.items()):
        for workers in list(WORKERS.values())[number % 3 :: 2] or [WORKERS["changing"]]:
            settings = mode | {"data": {"feed": "streaming", "workers": workers[0]}}
            recipe = recipe_of(data, tmp_path, epochs=4, **settings)
            killed = victim(children, recipe, tmp_path / f"{number}-{workers[0]}{workers[1]}", deaths)
            killed.train_straight()
            hows: list[Any] = ["clock", "step", "save", "clock", "clock", "save", "step"]
            chance.shuffle(hows)
            killed.kill("killed", hows, chance, workers=workers)
            print(f"{name}, workers {workers}: {deaths}")
    assert deaths.total >= 50
    assert deaths.in_saves >= 10
    assert max(deaths.per_epoch.values()) >= 2
    assert deaths.damaged >= 0.2 * deaths.total


@pytest.mark.slow
def test_D2_every_crash_point_of_a_whole_run_and_of_resuming(children: Forks, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "tiny.npz", train=72, size=8)
    recipe = recipe_of(data, tmp_path, max_steps=5, model={"name": "plain4"}, run={"checkpoint_every": "3it"})
    killed = victim(children, recipe, tmp_path / "runs")
    straight, died = killed.train_straight(), started(killed, step=5)
    count, where = 1, 0
    while True:
        folder = copy_of(died, "copy")
        status = killed.go_on("copy", crash_at=f"0+{count}")
        where += status == -signal.SIGKILL
        if status == 0:
            break
        assert killed.go_on("copy") == 0, shown(killed.log)
        assert list(differences(straight, folder)) == [], count
        count += 1
    assert where >= 50
    print(f"{where} points")


def test_the_variable_arms_a_process_and_nothing_else_does(children: Forks, tmp_path: Path) -> None:
    from halftone.base import crash

    assert VARIABLE == "HALFTONE_CRASH_AT"
    assert crash._armed is None
    for text in ("", "x", "3", "3+", "+3", "-1+2", "1+2 "):
        crash.arm(text)
        assert crash._armed is None
