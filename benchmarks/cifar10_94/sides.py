"""The two sides, each a process of its own."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cifar10_94.plain import BATCH, EPOCHS
from benchmarks.cifar10_94.task import IMAGES, RECIPE


def run_ours(settings: argparse.Namespace, data: str, seed: int, folder: str, *extra: str) -> tuple[Path, float]:
    """Train by the command line; return the run's folder and the seconds of the whole command."""
    words = ["train", data, "--recipe", str(RECIPE), "--precision", settings.precision, "--device", settings.device]
    words += ["--seed", str(seed)]
    if settings.epochs:
        steps = settings.epochs * ((settings.images or IMAGES) // BATCH)
        words += ["--epochs", str(settings.epochs), "--max-steps", str(steps)]
    words += ["--threads", str(settings.threads)] if settings.threads else []
    begun = time.perf_counter()
    said = halftone(folder, *words, "--json", *extra)
    return Path(said["run"]), time.perf_counter() - begun


def halftone(folder: str, *words: str) -> Any:
    finished = subprocess.run(
        [sys.executable, "-m", "halftone", *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(finished.stdout)


def run_plain(settings: argparse.Namespace, data: str, seed: int, *extra: str) -> tuple[dict[str, Any], float]:
    """Train by the transcription; return what it says and the seconds of the whole command."""
    words = ["--data", data, "--seed", str(seed), "--epochs", str(settings.epochs or EPOCHS)]
    words += ["--device", settings.device]
    words += ["--precision", settings.precision, "--threads", str(settings.threads), *extra]
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.cifar10_94.plain", *words]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout), time.perf_counter() - begun
