"""A request to stop at every place where a run may be: it ends in time, and what is on disk is whole."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forked import Forks
from halftone.exactness.ends import differences
from halftone.run.checkpoint import checkpoints
from halftone.run.folder import RunFolder
from halftone.weights.files import load_sealed
from samples import write_npz

FLAGS = ["--model", "plain4", "--batch-size", "12", "--epochs", "2", "--threads", "1", "--run.checkpoint-every", "2it",
         "--no-run.report", "--no-run.tensorboard"]  # fmt: skip
SETTLED = ["--precision", "fp32", "--lr", "0.02"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz", train=72, size=8)


def signalled(number: int, module: str, name: str, *, call: int = 1, slow: float = 0.0) -> None:
    """Let a function send a signal to its own process when it is called for the so-manieth time."""
    import importlib

    place = importlib.import_module(module)
    calls, real = 0, getattr(place, name)

    def with_signal(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
            time.sleep(slow)
        return real(*arguments, **options)

    setattr(place, name, with_signal)


def while_importing() -> None:
    import builtins

    real = builtins.__import__

    def imports(name: str, *rest: Any) -> Any:
        if name == "halftone.verbs":
            os.kill(os.getpid(), signal.SIGTERM)
        return real(name, *rest)

    builtins.__import__ = imports


def while_planning() -> None:
    signalled(signal.SIGTERM, "halftone.run.plan.data", "survey")


def while_probing() -> None:
    import halftone.run.plan.precision as place

    place.candidates = lambda facts: ("fp32", "bf16")
    signalled(signal.SIGTERM, "halftone.precision.trial", "wait_for", call=3)


def while_in_the_range_test() -> None:
    import halftone.run.plan.rates as place

    place.obstacle = lambda plan, fetch: ""
    signalled(signal.SIGINT, "halftone.loop.range_test", "update", call=3)


def while_building() -> None:
    signalled(signal.SIGTERM, "halftone.run.session", "build_optimizer")


def while_resuming() -> None:
    signalled(signal.SIGINT, "halftone.run.training", "restore")


def while_in_a_step() -> None:
    signalled(signal.SIGTERM, "halftone.loop.step", "crash_in_step", call=5)


def while_evaluating() -> None:
    signalled(signal.SIGTERM, "halftone.loop.evaluate", "mean_logits")


def while_saving() -> None:
    signalled(signal.SIGTERM, "halftone.weights.files", "_seal", call=2, slow=0.3)


def while_saving_the_best() -> None:
    signalled(signal.SIGINT, "halftone.run.saving", "save_model")


def while_concluding() -> None:
    signalled(signal.SIGTERM, "halftone.run.under_way", "conclude")


def twice_while_saving() -> None:
    signalled(signal.SIGTERM, "halftone.weights.files", "_seal", call=2, slow=1.2)
    signalled(signal.SIGTERM, "halftone.weights.files", "_digest", call=2)


BEFORE_THE_FIRST_STEP: dict[Callable[[], None], int] = {
    while_importing: 75,
    while_planning: 75,
    while_probing: 75,
    while_in_the_range_test: 130,
    while_building: 75,
}
AFTER_IT: dict[Callable[[], None], int] = {
    while_in_a_step: 75,
    while_evaluating: 75,
    while_saving: 75,
    while_saving_the_best: 130,
    while_concluding: 75,
}


@pytest.mark.parametrize("place", BEFORE_THE_FIRST_STEP, ids=lambda place: place.__name__)
def test_D3_D4_a_stop_before_the_first_step_leaves_nothing(
    children: Forks, tiny: Path, tmp_path: Path, place: Callable[[], None]
) -> None:
    log, clock = tmp_path / "log.txt", time.monotonic()
    precision = "auto" if place is while_probing else "fp32"
    flags = [*FLAGS, "--run.root", str(tmp_path / "runs"), "--precision", precision]
    code = children.run("train", str(tiny), *flags, log=log, patch=f"test_signals:{place.__name__}")
    said = log.read_text()
    assert code == BEFORE_THE_FIRST_STEP[place], said
    assert time.monotonic() - clock < 10
    assert "error: stopped before the first step; nothing was changed" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", AFTER_IT, ids=lambda place: place.__name__)
def test_D3_D4_D32_a_stop_ends_a_run_in_time_and_it_goes_on_exactly(
    children: Forks, tiny: Path, straight: RunFolder, tmp_path: Path, place: Callable[[], None]
) -> None:
    log, clock = tmp_path / "log.txt", time.monotonic()
    flags = [*FLAGS, *SETTLED, "--run.root", str(tmp_path), "--name", "run"]
    code = children.run("train", str(tiny), *flags, log=log, patch=f"test_signals:{place.__name__}")
    assert code == AFTER_IT[place], log.read_text()
    assert time.monotonic() - clock < 10
    said, folder = log.read_text(), RunFolder(tmp_path / "run")
    assert f"hint: go on with: halftone train --resume {folder.path}" in said
    assert "Traceback" not in said
    assert not list(folder.path.rglob("*.tmp"))
    load_sealed(checkpoints(folder.checkpoints)[0])
    assert children.train(folder.path, log=log) == 0, log.read_text()
    assert list(differences(straight, folder)) == []


@pytest.fixture(scope="module")
def straight(children: Forks, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("straight")
    assert children.run("train", str(tiny), *FLAGS, *SETTLED, "--run.root", str(root), "--name", "run") == 0
    return RunFolder(root / "run")


def test_D4_a_stop_while_resuming_changes_nothing(
    children: Forks, tiny: Path, straight: RunFolder, tmp_path: Path
) -> None:
    log, folder = tmp_path / "log.txt", RunFolder(tmp_path / "run")
    flags = [*FLAGS, *SETTLED, "--run.root", str(tmp_path), "--name", "run"]
    assert children.run("train", str(tiny), *flags, crash_at="7+0") == -signal.SIGKILL
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"}
    code = children.run("train", "--resume", str(folder.path), log=log, patch="test_signals:while_resuming")
    assert code == 130, log.read_text()
    assert {path: path.read_bytes() for path in before} == before
    assert children.train(folder.path, log=log) == 0
    assert list(differences(straight, folder)) == []


def test_D3_D32_a_second_signal_leaves_at_once_with_all_files_whole(
    children: Forks, tiny: Path, straight: RunFolder, tmp_path: Path
) -> None:
    """The first comes within a save, the second more than a second later within the same one."""
    log, folder = tmp_path / "log.txt", RunFolder(tmp_path / "run")
    flags = [*FLAGS, *SETTLED, "--run.root", str(tmp_path), "--name", "run"]
    code = children.run("train", str(tiny), *flags, log=log, patch="test_signals:twice_while_saving")
    assert code == -signal.SIGTERM, log.read_text()
    assert [path.name for path in folder.checkpoints.glob(".*.tmp")] == [".step-000000002.safetensors.tmp"]
    load_sealed(checkpoints(folder.checkpoints)[0])
    assert children.train(folder.path, log=log) == 0
    assert not list(folder.checkpoints.glob(".*.tmp"))
    assert list(differences(straight, folder)) == []


_IN_A_TERMINAL = """
import os, sys
os.login_tty(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-m", "halftone", *sys.argv[2:]])
"""


def test_D5_a_terminal_that_closes_does_not_end_the_run(tiny: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    flags = [*FLAGS, *SETTLED, "--run.root", str(tmp_path), "--name", "run"]
    command = [sys.executable, "-c", _IN_A_TERMINAL, str(theirs), "train", str(tiny), *flags]
    with subprocess.Popen(command, pass_fds=[theirs]) as process:
        os.close(theirs)
        said = b""
        while b"run:" not in said:
            said += os.read(ours, 1 << 16)
        os.close(ours)  # the kernel hangs up
        assert process.wait(120) == 0
    assert RunFolder(tmp_path / "run").results.read_text().count("\n") == 3
