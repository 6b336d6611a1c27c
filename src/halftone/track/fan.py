"""One stream, many listeners; a listener that fails is left out and training goes on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from halftone.base.errors import HalftoneError
from halftone.run.events import Event, Notice


class Listener(Protocol):
    """Something that takes events somewhere."""

    def hear(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """The stream has ended, in whatever way."""


def told(stream: Iterable[Event], listeners: Sequence[Listener]) -> Iterator[Event]:
    """Pass a stream on, telling each event to each listener first.

    A listener that raises is closed and told no more; a notice of it goes to the others. Its failure never
    ends the run: a full disk under a log must not cost the training.
    """
    active = list(listeners)
    try:
        for event in stream:
            pending: list[Event] = [event]
            while pending:
                current = pending.pop(0)
                for listener in tuple(active):
                    try:
                        listener.hear(current)
                    except (HalftoneError, OSError, ValueError, RuntimeError) as error:
                        active.remove(listener)
                        name = type(listener).__name__
                        pending.append(Notice(f"{name} failed and is left out from here on: {error}"))
                yield current
    finally:
        for listener in listeners:
            listener.close()
