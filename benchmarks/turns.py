"""Contestants in processes of their own that take turns on command, so that none shares an allocator with another."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

READY = "ready"


class Worker:
    """Another process of a benchmark, which waits until it is asked."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        """Start `python -m module arguments`; it calls `serve`."""
        words = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order: str = "turn") -> Any:
        """Give an order and return the answer; nothing else runs meanwhile.

        Raises:
            SystemExit: it has ended, having said why on standard error.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(order + "\n")
            stdin.flush()
            return json.loads(stdout.readline())
        except (OSError, ValueError) as error:
            words = " ".join(str(word) for word in self._process.args[2:])  # type: ignore[index]
            raise SystemExit(f"the process of {words} has ended: {self._process.wait()}") from error

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def workers(module: str, arguments: Sequence[Sequence[str]]) -> Iterator[list[Worker]]:
    """Start workers one after the other, and end them with the context."""
    with ExitStack() as stack:
        started = []
        for words in arguments:
            worker = Worker(module, words)
            stack.callback(worker.close)
            assert worker.ask(READY) == READY  # so that the next one does not start while this one still does
            started.append(worker)
        yield started


def serve(answer: Callable[[str], Any]) -> None:
    """Answer the orders that come on standard input, each with one line of JSON, until no more can come."""
    talk, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        order = line.strip()
        print(json.dumps(READY if order == READY else answer(order)), file=talk, flush=True)
