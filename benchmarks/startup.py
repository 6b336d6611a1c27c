"""How soon things begin: help, the import, and the first step of a run.

    python -m benchmarks.startup [--photos DIR --weights FILE]

Each is a process of its own, timed from its start. A run's first step is told by the run itself; the run then ends.
The first run of each set measures what later ones find in the cache, whose folder is empty at the start.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import harness
from halftone.base.files import write_json, write_text

_UNTIL_THE_FIRST_STEP = """
import os, sys
from halftone.cli.main import main
from halftone.loop.events import StepTaken
from halftone.track.tables import Tables
hear = Tables.hear
def told(self, event):
    if isinstance(event, StepTaken):
        float(event.loss)
        os._exit(0)
    hear(self, event)
Tables.hear = told
sys.exit(main(sys.argv[1:]) or 1)
"""
LIMITS = {"import halftone": 0.1, "halftone --help": 0.4}
FIRST_STEP = 5.0


def main() -> None:
    settings = _arguments()
    where = harness.machine()
    python = sys.executable
    commands: dict[str, Sequence[str]] = {
        "python": (python, "-c", "pass"),
        "import halftone": (python, "-c", "import halftone"),
        "halftone --help": (python, "-m", "halftone", "--help"),
        "halftone train --help": (python, "-m", "halftone", "train", "--help"),
        "import torch": (python, "-c", "import torch"),
    }
    runs: dict[str, Sequence[str]] = {"train digits": ("digits",)}
    if settings.photos and settings.weights:
        data, weights = (str(path.expanduser().resolve()) for path in (settings.photos, settings.weights))
        runs["train photos --model squeezenet1_1 --weights FILE"] = (
            data,
            "--model",
            "squeezenet1_1",
            "--weights",
            weights,
        )
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = {**os.environ, "XDG_CACHE_HOME": folder}
        for number in range(settings.rounds + 1):
            for name, command in commands.items():
                _note(found, name, _seconds(command), counts=number > 0)
            for name, words in runs.items():
                command = (python, "-c", _UNTIL_THE_FIRST_STEP, "train", *words, "--run.root", f"{folder}/runs")
                _note(found, f"{name}{'' if number else ', the first time'}", _seconds(command, cache), counts=True)
    text = _report(found, settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "startup.md", text)
        write_json(harness.RESULTS / "startup.json", {"machine": where, "seconds": found})


def _seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command[-4:])} ended with {done.returncode}: {done.stderr[-500:]}")
    return seconds


def _note(found: dict[str, list[float]], name: str, seconds: float, *, counts: bool) -> None:
    if counts:
        found.setdefault(name, []).append(seconds)


def _report(found: Mapping[str, Sequence[float]], settings: argparse.Namespace, where: Mapping[str, object]) -> str:
    rows, base = [], harness.Spread.of(found["python"]).median
    for name, seconds in found.items():
        limit = LIMITS.get(name, FIRST_STEP if name.startswith("train") and "first time" not in name else None)
        spread = harness.Spread.of(seconds)
        # what Python itself takes to start is nobody's merit
        own = spread.median - (base if name == "import halftone" else 0.0)
        verdict = "" if limit is None else f"{'met' if own <= limit else 'MISSED'}: at most {limit:g} s"
        rows.append((name, str(len(seconds)), spread.text(2), verdict))
    parts = [
        "# startup",
        (
            "Seconds from the start of the process to its end or, of a run, to the end of its first step; median and "
            "range. The import is judged without what Python itself takes."
        ),
        f"`{harness.command_line('benchmarks.startup')}`",
        harness.describe(where),
        harness.markdown_table(("", "n", "seconds", ""), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files with train/ and val/")
    parser.add_argument("--weights", type=Path, help="of squeezenet1_1")
    parser.add_argument("--rounds", type=int, default=harness.LEAST_ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
