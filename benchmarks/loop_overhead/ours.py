"""halftone's loop: alone, and with all that a run of the command line has around it."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from benchmarks.harness import Clock
from benchmarks.loop_overhead.task import DECAY, RATE, SEED, Task
from halftone.loop.events import StepTaken
from halftone.loop.state import Progress
from halftone.loop.train import train
from halftone.run.events import Event
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from halftone.track.console import Terminal
from halftone.verbs import train as train_verb


def logging_off(task: Task, clock: Clock) -> nn.Module:
    """The loop over a session, to which nobody listens."""
    network = task.fresh_network()
    prepared = make_plan(_recipe(task, run={"grad_norm": False}), data=_data(task), model=network)
    session = build_session(prepared)
    for event in train(session, Progress.start(session.device), max_skipped=32):
        if isinstance(event, StepTaken):
            clock.tick()
    return network


def everything_on(task: Task, clock: Clock) -> nn.Module:
    """A run with tables, TensorBoard, checkpoints and lines on a console, as in a job's log."""
    return _full_run(task, clock, terminal=False)


def everything_on_terminal(task: Task, clock: Clock) -> nn.Module:
    """The same before a person: the progress bar is drawn, into the null device."""
    return _full_run(task, clock, terminal=True)


def _full_run(task: Task, clock: Clock, *, terminal: bool) -> nn.Module:
    network = task.fresh_network()
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, force_terminal=terminal, width=120)
        recipe = _recipe(task, run={"root": Path(folder), "grad_norm": True, "tensorboard": True, "report": False})
        train_verb(recipe, data=_data(task), model=network, listeners=[Terminal(console), _Ticks(clock)])
    return network


class _Ticks:
    """Hears of each step after everybody else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def hear(self, event: Event) -> None:
        if isinstance(event, StepTaken):
            self._clock.tick()

    def close(self) -> None:
        pass


def _recipe(task: Task, *, run: dict[str, Any]) -> Recipe:
    return Recipe(
        precision="fp32",
        optimizer={"name": "sgd", "lr": RATE, "l2": DECAY, "decay_all": True},
        loss={"label_smoothing": 0.0},
        augment="none",
        warmup="none",
        decay="cosine",
        epochs=1,
        batch_size=task.batch_size,
        device="cpu",
        threads=torch.get_num_threads(),
        keep_memory=False,
        seed=SEED,
        run=run,
    )


def _data(task: Task) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the images for training, and a few for the evaluation, which is not timed."""
    images, labels = task.images.numpy(), task.labels.numpy()
    few = np.arange(100)
    return (images, labels), (images[few], labels[few])
