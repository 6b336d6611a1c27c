"""A process that trains one run after the other, each in a child of its own.

    python -m halftone.comparison.trainers.trainer

It imports once what runs need and forks for each run, so that a run starts at once, has the memory of a process to
itself, and takes nobody along when it is killed. Jobs come as lines of JSON on standard input, what happens goes out as
lines of JSON on standard output; when standard input closes, a run under way is asked to stop. Where forking is no good
idea (anywhere but Linux) it trains a single run and ends.
"""

import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from halftone.base.errors import Diverged, HalftoneError, Interrupted
from halftone.comparison.records import Digests
from halftone.comparison.trainers.outcome import Watched
from halftone.loop.events import EpochDone, StepTaken
from halftone.loop.state import digest_of
from halftone.run.events import Event, Finished, FirstBatch, Planned, Started
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.run.unattended import can_go_on
from halftone.system.device import choose_device
from halftone.system.energy import EnergyMeter, find_meter
from halftone.system.memory import process_peak_bytes
from halftone.track.fan import told
from halftone.verbs import usual_listeners

FORKS = sys.platform.startswith("linux")
_NEEDED_BY_ALL = ("torch._dynamo", "torch.utils.tensorboard")
"""What every run imports late: torch's optimizers the first, which takes a second, and TensorBoard's tables."""
_WAIT = 0.05
"""Seconds between two looks at a run's process and at standard input."""


@dataclass(slots=True)
class _Watch:
    """Listens to a run for what its folder does not keep."""

    folder: Path
    say: TextIO
    began: float
    seen: Watched
    meter: EnergyMeter | None = None
    joules_before: float = 0.0

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Planned(plan):
                found = find_meter(choose_device(plan.settled.device))
                self.meter = found if isinstance(found, EnergyMeter) else None
                self.seen = self.seen.replaced(no_joules=found if isinstance(found, str) else "")
            case Started() if not event.tried:
                digests = Digests(weights=event.weights_digest(), order=event.order_digest())
                self.seen = self.seen.replaced(digests=digests)
                self.joules_before = self._read()
            case Started():
                self.meter, self.seen = None, self.seen.replaced(joules=None, no_joules="a run that was interrupted")
            case FirstBatch():
                digests = self.seen.digests.replaced(images=digest_of(event.images))
                self.seen = self.seen.replaced(digests=digests)
            case StepTaken() if self.seen.startup_seconds is None:
                self.seen = self.seen.replaced(startup_seconds=time.monotonic() - self.began)
                self.seen.save(self.folder)
            case EpochDone():
                accuracy = event.evaluation.metrics.accuracy
                _send(self.say, event="epoch", epoch=event.epoch, accuracy=accuracy, seconds=event.seconds)
            case Finished():
                joules = self._read() - self.joules_before if self.meter else None
                self.seen = self.seen.replaced(joules=joules, process_mb=process_peak_bytes() / 2**20)
            case _:
                pass

    def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> float:
        try:
            return self.meter.read() if self.meter else 0.0
        except Exception as error:  # a meter that fails ends the measuring, not the run
            self.meter = None
            self.seen = self.seen.replaced(no_joules=f"the meter failed: {' '.join(str(error).split())[:120]}")
            return 0.0


def train_one(recipe: Mapping[str, Any], say: TextIO, *, began: float) -> None:
    """Train a run, or go on with it, and leave in its folder how it ended.

    Args:
        recipe: of the run, with its folder.
        say: where its epochs are told.
        began: `time.monotonic()` when the run was asked for.
    """
    stop = StopRequest()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.ask(number))
    wish = Recipe.parse(recipe)
    folder = wish.run.root / str(wish.run.name)
    resumed = can_go_on(folder)
    seen = Watched.load(folder).replaced(status="", fault="") if resumed else Watched()
    watch, status, fault = _Watch(folder, say, began, seen), "finished", ""
    try:
        stream = resuming(folder, stop=stop) if resumed else training(wish, stop=stop)
        planned = next(stream)
        assert isinstance(planned, Planned)
        for _ in told(chain([planned], stream), [*usual_listeners(planned.plan), watch]):
            pass
    except Interrupted:
        watch.seen.save(folder)
        return
    except Diverged as error:
        status, fault = "diverged", str(error)
    except HalftoneError as error:
        status, fault = "failed", str(error)
    except Exception as error:  # a failing variant is a result
        status, fault = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    watch.seen.replaced(status=status, fault=fault).save(folder)


def main() -> None:
    """Serve."""
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no message
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if FORKS:
        for name in _NEEDED_BY_ALL:
            importlib.import_module(name)
    _send(say, event="ready")
    for job in _jobs():
        began = time.monotonic()
        if not FORKS:
            train_one(job, say, began=began)
            _send(say, event="done", signal=0)
            return
        child = os.fork()
        if not child:
            try:
                train_one(job, say, began=began)
            finally:
                say.flush()
                os._exit(0)
        if not _wait(child, say):
            return


def _jobs() -> Iterator[dict[str, Any]]:
    """Read jobs from the descriptor itself: a buffer would hide from `select` what it holds."""
    pending = b""
    while True:
        read = os.read(0, 1 << 16)
        if not read:
            return
        pending += read
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            yield json.loads(line)


def _wait(child: int, say: TextIO) -> bool:
    """Wait for a child, and say how it ended. Returns whether there may be more jobs."""
    goes_on = True
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _send(say, event="done", signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
            return goes_on
        if goes_on and select.select([0], [], [], _WAIT)[0]:
            goes_on = False  # nobody sends a job before `done`, so standard input was closed
            os.kill(child, signal.SIGTERM)
        elif not goes_on:
            time.sleep(_WAIT)


def _send(say: TextIO, **message: Any) -> None:
    with suppress(BrokenPipeError):  # whoever listened was killed; that standard input is closed is heard, too
        say.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
