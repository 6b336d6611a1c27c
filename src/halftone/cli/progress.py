"""A progress bar over anything that is counted; nothing without a terminal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


class Reached(NamedTuple):
    """How far a stage of the work is."""

    label: str
    done: int
    total: int


def working(label: str) -> AbstractContextManager[object]:
    """Show that something takes a while, on standard error."""
    return Console(stderr=True).status(label)


def counted(items: Iterable[Item], *, total: int, label: str) -> Iterator[Item]:
    """Yield the items and show how many have passed, on standard error."""
    numbers = iter(range(1, total + 1))
    yield from measured(items, lambda _: Reached(label, next(numbers, total), total))


def measured(items: Iterable[Item], reached: Callable[[Item], Reached]) -> Iterator[Item]:
    """Yield the items and show how far each says that the work is, on standard error; stages follow one another."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        label = ""
        for item in items:
            at = reached(item)
            if at.label != label:
                label = at.label
                progress.reset(task, total=at.total, description=label)
            progress.update(task, completed=at.done)
            yield item
