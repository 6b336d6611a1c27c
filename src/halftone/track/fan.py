"""One stream, many listeners; a listener that fails is left out and training goes on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from halftone.run.events import Event, Notice


class Listener(Protocol):
    """Something that takes events somewhere."""

    def hear(self, event: Event) -> Notice | None:
        """Take one event; answer with what a person should know, if anything."""

    def close(self) -> None:
        """The stream has ended, in whatever way."""


def told(stream: Iterable[Event], listeners: Sequence[Listener]) -> Iterator[Event]:
    """Pass a stream on, telling each event to each listener first.

    A listener that raises is closed and told no more; a notice of it goes to the others. Its failure never
    ends the run: neither a full disk under a log nor a fault in a plot must cost the training.
    """
    active = list(listeners)
    try:
        for event in stream:
            yield from _tell(event, active)
    finally:
        for listener in active:
            _close(listener)


def _tell(event: Event, active: list[Listener]) -> Iterator[Event]:
    """Tell one event, and what its telling led to; take those that fail out of the list."""
    pending: list[Event] = [event]
    while pending:
        current = pending.pop(0)
        for listener in tuple(active):
            try:
                answer = listener.hear(current)
            except Exception as error:  # whatever it is, it is the listener's own affair
                active.remove(listener)
                _close(listener)
                name, reason = type(listener).__name__, str(error) or type(error).__name__
                pending.append(Notice(f"{name} failed and is left out from here on: {reason}"))
            else:
                if isinstance(answer, Notice):
                    pending.append(answer)
        yield current


def _close(listener: Listener) -> None:
    """Let a listener go; what fails now was said when it first failed, or comes too late for anybody to hear."""
    with suppress(Exception):
        listener.close()
