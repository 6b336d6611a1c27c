"""What the process does while a file is being read, as Python itself reports it (PEP 578)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DEEDS = {
    *("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.rename", "os.symlink"),
    *("socket.connect", "webbrowser.open", "shutil.rmtree", "os.remove", "os.rmdir"),
}
_seen: set[str] | None = None
"""None while nobody watches: a hook cannot be taken away again."""


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event in _DEEDS:
        _seen.add(event)
    if event == "exec" and str(getattr(arguments[0], "co_filename", "<")).startswith("<string"):
        _seen.add(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        _seen.add(f"open {arguments[0]}")


sys.addaudithook(_hear)


@contextmanager
def watched() -> Iterator[set[str]]:
    """Give the set of what happens within the context: processes, connections, files opened for writing, text run."""
    global _seen
    _seen = found = set()
    try:
        yield found
    finally:
        _seen = None
