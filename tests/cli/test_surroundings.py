"""Surroundings that lack something: a home, rights, letters, a terminal. Starting torch takes long: tests do much."""

import csv
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import halftone
from halftone.base.tables import read_table
from halftone.cli.main import main
from samples import write_folder, write_npz

COMMANDS = """
import shlex, sys
from halftone.cli.main import main
for line in sys.argv[1:]:
    print("rc", main(shlex.split(line)), file=sys.stderr, flush=True)
"""
STRANGER = 54321
"""A user whom nobody knows: no name, no home."""
AS_STRANGER = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(8, 1, 0, 0, 0)  # keep what the superuser may, over the change of user
os.setgroups([]), os.setgid({STRANGER}), os.setuid({STRANGER})
header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(1 << 2, 1 << 2)
if libc.capset(header, rights):  # and of that only to read everything: the interpreter may lie in a private folder
    sys.exit(77)
"""
QUICK = "--epochs 1 --batch-size 8 --model cnn --lr 0.01 --precision fp32 --threads 1 --no-run.tensorboard"


def commands(lines: list[str], folder: Path, *, before: str = "", **environment: str) -> tuple[list[int], str, str]:
    """Run commands in one process; return the exit codes and what was said on both streams."""
    done = subprocess.run(
        [sys.executable, "-c", before + COMMANDS, *lines],
        capture_output=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment},
        timeout=200,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    if done.returncode == 77:
        pytest.skip("this machine does not let the superuser drop its rights")
    assert "Traceback" not in said
    return [int(code) for code in re.findall(r"^rc (\d+)$", said, re.MULTILINE)], done.stdout.decode(), said


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach: pytest's own are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def tree(root: Path) -> Mapping[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser can become another")
def test_F9_F13_a_stranger_without_a_home_and_a_package_that_cannot_be_written(open_folder: Path) -> None:
    """Neither a name, nor a home, nor the temporary folder that it was told; the package belongs to somebody else."""
    package = open_folder / "lib"
    shutil.copytree(Path(halftone.__file__).parent, package / "halftone", ignore=shutil.ignore_patterns("__pycache__"))
    for path in package.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(package)
    write_folder(open_folder / "set", train=36, val=12)
    train = f"train set {QUICK} --data.feed streaming --data.cache disk --name night"
    codes, out, said = commands(
        [train, "predict runs/night set/val/down/0002.png", "train cifar10", "train set --run.root lib/halftone"],
        open_folder,
        before=AS_STRANGER,
        PYTHONPATH=str(package),
        TMPDIR="/nonexistent",
    )
    assert codes == [0, 0, 6, 6], said
    assert "pictures are not kept" in said
    assert "HALFTONE_CACHE names another place" in said
    assert "cifar10: there is no home folder" in said
    assert "no permission to write lib/halftone" in said
    assert (open_folder / "runs/night/report.html").stat().st_uid == STRANGER
    assert "set/val/down/0002.png" in out
    assert tree(package) == before


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
        pytest.param({"LC_ALL": "POSIX"}, marks=pytest.mark.slow),
    ],
)
def test_F10_letters_that_the_locale_lacks_and_newlines_of_windows(tmp_path: Path, locale: dict[str, str]) -> None:
    """Classes of accents and pictures, files of umlauts, a recipe and a table from Windows: every name arrives."""
    names = {"across": "caf\u00e9", "aslant": "\N{CAT FACE} cat", "down": "plain"}
    root = write_folder(tmp_path / "set", train=36, val=12)
    for part in ("train", "val"):
        for old, new in names.items():
            (root / part / old).rename(root / part / new)
    for file in sorted(root.rglob("*.png")):
        file.rename(file.with_name(f"\u00fc{file.name}"))
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted((root / "train").rglob("*.png"))]
    (root / "table.csv").write_bytes("\r\n".join(["path,label", *rows, ""]).encode("utf-8-sig"))
    (tmp_path / "wish.yaml").write_bytes(b"\xef\xbb\xbf# from Windows\r\nepochs: 1\r\nbatch_size: 8\r\nmodel: cnn\r\n")
    quick = "--recipe wish.yaml --lr 0.01 --precision fp32 --threads 1"
    lines = [
        f"train set {quick} --name a",
        "evaluate runs/a",
        "predict runs/a set/val --json",
        "check-data set",
        "report runs/a",
        f"train set/table.csv {quick} --name b --no-run.report --no-run.tensorboard",
    ]
    source = str(Path(halftone.__file__).parents[1])
    codes, out, said = commands(lines, tmp_path, PYTHONPATH=source, HOME=str(tmp_path), **locale)
    assert codes == [0] * 6, said
    assert "Encode" not in said
    assert "left out from here on" not in said
    wanted = sorted(names.values())
    for run in ("a", "b"):
        report = json.loads((tmp_path / "runs" / run / "classification_report.json").read_text("utf-8"))
        assert sorted(row["name"] for row in report["classes"]) == wanted
    assert all(name in (tmp_path / "runs/a/report.html").read_text("utf-8") for name in wanted)
    with (tmp_path / "runs/a/predictions.csv").open(encoding="utf-8", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(wanted)
    predicted = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(predicted) == 12
    assert {one["label"] for one in predicted} <= set(wanted)


def test_F12_a_narrow_terminal_without_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real terminal of 20 columns shows a bar but no colour; a pipe gets plain lines. Both say the same numbers."""
    data = write_npz(tmp_path / "tiny.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLUMNS")
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    os.set_blocking(controller, False)
    seen = bytearray()
    with os.fdopen(terminal, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        assert main(["train", str(data), *QUICK.split(), "--no-run.report", "--name", "shown"]) == 0
        screen.flush()
        while True:
            try:
                seen += os.read(controller, 1 << 16)
            except BlockingIOError:
                break
    os.close(controller)
    shown = seen.decode()
    assert re.search(r"\x1b\[(\d+;)*(3[0-7]|9[0-7]|38;)", shown) is None
    assert main(["train", str(data), *QUICK.split(), "--no-run.report", "--name", "piped"]) == 0
    plain = capsys.readouterr().err
    assert "\x1b" not in plain
    for name, text in (("shown", shown), ("piped", plain)):
        (row,) = read_table(tmp_path / "runs" / name / "results.csv")
        assert f"{float(row['val_loss']):.4f}" in text
        assert "done in" in text
