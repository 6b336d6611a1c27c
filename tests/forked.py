"""Command lines of halftone, each in a child of one process that has imported torch: real processes, begun at once.

    python -m forked

reads jobs as lines of JSON and answers each with how its child ended. It computes nothing itself, so it has no threads
that a fork could lose.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from halftone.run.stopping import StopRequest


class Forks:
    """Starts children; `launch` is what `verify` wants to be given."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        *arguments: str,
        crash_at: str = "",
        log: Path = Path(os.devnull),
        kill_after: float = 0.0,
        patch: str = "",
    ) -> int:
        """Run a command line and return its exit code, or minus the signal that ended it.

        Args:
            arguments: of `halftone`.
            crash_at: a crash point.
            log: what the child prints is added to it.
            kill_after: seconds after which it is killed, if any.
            patch: a function `module:name` that the child calls first.
        """
        job = {"arguments": arguments, "crash_at": crash_at, "log": str(log), "kill_after": kill_after, "patch": patch}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def train(self, place: Path, *, workers: int | None = None, **fate: Any) -> int:
        """Train a recipe, or go on with the run of a folder, without the half second that flags take; as `run`."""
        return self.run("", str(place), *([] if workers is None else [str(workers)]), **fate)

    def launch(self, arguments: Sequence[str], crash_at: str, log: Path, stop: StopRequest) -> int:
        """Do as `halftone.exactness.process.launch` does."""
        return self.run(*arguments, crash_at=crash_at, log=log)


@contextmanager
def forks() -> Iterator[Forks]:
    """Keep the process for a while."""
    process = subprocess.Popen(
        [sys.executable, "-m", "forked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Forks(process)
        process.stdin.close()


def _serve() -> None:
    import importlib

    for name in ("torch._dynamo", "halftone.verbs", "halftone.cli.main"):
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _work(job)
        killer = threading.Timer(job["kill_after"], os.kill, (child, signal.SIGKILL)) if job["kill_after"] else None
        if killer is not None:
            killer.start()
        _, status = os.waitpid(child, 0)
        if killer is not None:
            killer.cancel()
            killer.join()
        print(os.waitstatus_to_exitcode(status), flush=True)


def _work(job: dict[str, Any]) -> None:
    """Be the child."""
    from halftone.base import crash
    from halftone.cli.main import main

    code = 1
    arguments = job["arguments"]
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        crash.arm(job["crash_at"])
        if job["patch"]:
            module, _, name = job["patch"].partition(":")
            getattr(__import__(module), name)()
        code = main(arguments) if arguments[0] else _train(*arguments[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _train(place: str, workers: str = "") -> int:
    from halftone.base.errors import HalftoneError
    from halftone.cli.train import patient_console
    from halftone.run.recipe import read_recipe
    from halftone.track.console import Terminal
    from halftone.verbs import resume, train

    listeners = [Terminal(patient_console(stderr=True), plan=False)]
    try:
        if Path(place).is_dir():
            resume(place, workers=int(workers) if workers else None, listeners=listeners)
        else:
            train(read_recipe(Path(place)), listeners=listeners)
    except HalftoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    _serve()
