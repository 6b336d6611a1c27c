"""The log of notices: all that a run says beside its numbers, a row each in notices.csv."""

import csv
from typing import TextIO

from halftone.base.errors import printable
from halftone.run.events import Event, Started
from halftone.run.folder import RunFolder
from halftone.track.wording import sentence

COLUMNS = ("tried", "text")


class Notices:
    """Writes down each notice and the steps that were tried before it. A run that goes on adds to what is there."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._file: TextIO | None = None
        self._tried = 0

    def hear(self, event: Event) -> None:
        """Take one event."""
        self._tried = getattr(event, "tried", self._tried)  # several events say it
        if isinstance(event, Started):
            self._file = _open(event.folder)
        text = sentence(event)
        if text is not None and self._file is not None:
            csv.writer(self._file).writerow((self._tried, printable(text)))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(folder: RunFolder) -> TextIO:
    new = not folder.notices.is_file()
    file = folder.notices.open("a", newline="", encoding="utf-8")
    if new:
        csv.writer(file).writerow(COLUMNS)
        file.flush()
    return file
