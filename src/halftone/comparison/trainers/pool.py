"""Trainer processes, one per device, and what they say while they train."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from halftone.base.errors import ResourceError
from halftone.comparison.records import Variant
from halftone.run.stopping import StopRequest

_WAIT = 0.2
"""Seconds between two looks at a request to stop."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be trained."""

    variant: Variant
    seed: int
    recipe: Mapping[str, Any]
    """With its folder, as JSON may hold it."""
    path: Path
    """Of the folder."""


@dataclass(frozen=True, slots=True)
class RunBegun:
    """A run begins, or goes on."""

    job: Job


@dataclass(frozen=True, slots=True)
class RunEpoch:
    """An epoch of a run is over."""

    job: Job
    epoch: int
    accuracy: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The process of a run is gone; its folder says how it ended, unless a signal ended it."""

    job: Job
    signal: int


@dataclass(slots=True)
class _Trainer:
    """One process."""

    device: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    job: Job | None = None
    pending: bytes = b""

    def give(self, job: Job) -> None:
        """Begin a job."""
        if self.process is not None and self.process.poll() is not None:
            self.close()
        if self.process is None:
            self.process, self.pending = _start(self.log), b""
        self.job = job
        recipe = {**job.recipe, "device": self.device} if self.device else job.recipe
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its end is heard on the other pipe
            self.process.stdin.write(json.dumps(recipe).encode() + b"\n")
            self.process.stdin.flush()

    @property
    def pipe(self) -> IO[bytes]:
        """Where it speaks."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def heard(self) -> Iterator[RunEpoch | RunEnded]:
        """Read what it has said."""
        assert self.process is not None
        assert self.job is not None
        read = os.read(self.pipe.fileno(), 1 << 16)
        if not read:
            status, ended, self.job = self.process.wait(), self.job, None
            yield RunEnded(ended, max(-status, 0))
            return
        self.pending += read
        *lines, self.pending = self.pending.split(b"\n")
        job = self.job
        for line in lines:
            message = json.loads(line)
            if message["event"] == "epoch":
                yield RunEpoch(job, message["epoch"], message["accuracy"], message["seconds"])
            elif message["event"] == "done":
                self.job = None
                yield RunEnded(job, message["signal"])

    def close(self) -> None:
        """Let it stop what it does, and wait."""
        if self.process is not None:
            assert self.process.stdin is not None
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.pipe.close()
            self.process = None


def _start(log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as errors:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "halftone.comparison.trainers.trainer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is ours alone
            )
        except OSError as error:
            raise ResourceError(f"no process can be started to train in: {error.strerror}") from error


def train_jobs(
    jobs: Iterator[Job], devices: Sequence[str], log: Path, *, stop: StopRequest
) -> Iterator[RunBegun | RunEpoch | RunEnded]:
    """Train jobs, one at a time on each device, and yield what happens.

    Args:
        jobs: taken one by one, when a device is free; so that what comes next may depend on what has ended.
        devices: `""` is the one that the recipe names.
        log: a file for what the processes write to standard error.
        stop: when its signal is set, no more jobs are begun, and those under way are saved.
    """
    trainers = [_Trainer(device, log) for device in devices]
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                for trainer in trainers:
                    job = None if trainer.job or stop.signal is not None else next(jobs, None)
                    if job is not None:
                        trainer.give(job)
                        yield RunBegun(job)
                busy = [trainer for trainer in trainers if trainer.job]
                if not busy or stop.signal is not None:
                    return
                for trainer in busy:
                    selector.register(trainer.pipe, selectors.EVENT_READ, trainer)
                ready = [key.data for key, _ in selector.select(_WAIT)]
                for trainer in busy:
                    selector.unregister(trainer.pipe)
                for trainer in ready:
                    yield from trainer.heard()
        finally:
            for trainer in trainers:
                trainer.close()
