"""Threads that read images, and a limit to how long one of them may take.

A network file system that has lost its server lets a read wait for ever, and no thread can be stopped from outside. So
whoever waits for images looks at the clock, names the image that is in the way, and leaves its thread behind: such
threads do not keep a process from ending.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

from halftone.base.errors import ResourceError

Result = TypeVar("Result")

TIMEOUT = 60.0
"""Seconds that reading and decoding one image may take, unless something else is said."""
_LOOK_EVERY = 1.0
"""Seconds between looks at what the threads are at."""
_PATIENCE = 5.0
"""Seconds that threads have to put down their work at the end."""
_AT_ONCE = 16
"""Images that a thread takes at once where their results are wanted one by one."""
_AHEAD = 4
"""Portions for each thread that wait or are done before they are wanted."""


class Readers:
    """Threads that work in the background on images, which are numbered."""

    def __init__(self, workers: int, *, timeout: float, name: Callable[[int], str]) -> None:
        """Start the threads.

        Args:
            workers: how many; at least one is started.
            timeout: seconds that one image may take; 0 is no limit.
            name: says how an image is called, for the error.
        """
        self._timeout = timeout
        self._name = name
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            queue.SimpleQueue()
        )
        self._at: dict[int, list[int]] = {}
        """What each thread is at; a new list for each image."""
        self._seen: dict[int, tuple[list[int], float]] = {}
        """What each thread was at when last looked at, and for how many seconds it has been since."""
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(max(1, workers))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def num_threads(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Let a thread call a function, which says by `begin` which image it is at."""
        future: Future[Result] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def begin(self, index: int) -> None:
        """Note that the calling thread turns to another image, whose time begins now."""
        self._at[threading.get_ident()] = [index]

    def wait(self, futures: Sequence[Future[list[Result]]]) -> list[Result]:
        """Return the results of some tasks in one list. To wait for all at once takes less of the threads' time.

        Time counts only while somebody waits, so a process that was suspended finds nothing overdue when it wakes.

        Raises:
            ResourceError: an image takes longer than the limit; it is named.
        """
        tick = min(_LOOK_EVERY, self._timeout / 5) if self._timeout else None
        while any(not future.done() for future in futures):
            _, remaining = wait_for(futures, timeout=tick)
            if remaining and tick is not None:
                self._look(tick)
        return [result for future in futures for result in future.result()]

    def map(self, function: Callable[[int], Result], indices: Iterable[int]) -> Iterator[Result]:
        """Yield a function's results for images, in their order; see `wait`."""

        def portion(some: list[int]) -> list[Result]:
            results = []
            for index in some:
                self.begin(index)
                results.append(function(index))
            return results

        pending: deque[Future[list[Result]]] = deque()
        for some in _portions(indices):
            pending.append(self.submit(portion, some))
            if len(pending) > _AHEAD * self.num_threads:
                yield from self.wait([pending.popleft()])
        while pending:
            yield from self.wait([pending.popleft()])

    def close(self) -> None:
        """Drop what was not begun and let the threads go; one that hangs is left behind."""
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            overdue = self._timeout and self._seen.get(thread.ident or 0, ([], 0.0))[1] >= self._timeout
            thread.join(0 if overdue else _PATIENCE)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, arguments = task
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)
            self._at.pop(threading.get_ident(), None)
            del task, future, function, arguments  # nothing is kept alive while there is nothing to do

    def _look(self, seconds: float) -> None:
        for thread, at in list(self._at.items()):
            before, passed = self._seen.get(thread, (at, 0.0))
            passed = passed + seconds if before is at else 0.0
            self._seen[thread] = (at, passed)
            if passed >= self._timeout:
                raise ResourceError(
                    f"{self._name(at[0])} has not been read within {self._timeout:g} seconds",
                    hint="see whether its storage answers; --data.timeout waits longer, 0 for ever",
                )


def _portions(indices: Iterable[int]) -> Iterator[list[int]]:
    remaining = iter(indices)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
