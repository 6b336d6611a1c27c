"""Pictures kept in this process's memory."""

import threading

from halftone.data.labelled import Pixels


class MemoryStore:
    """Keeps pictures until a bound is reached, and none after that."""

    def __init__(self, most_bytes: int) -> None:
        """Take the bound."""
        self._most = most_bytes
        self._pictures: dict[int, Pixels] = {}
        self._taken = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def shape(self, number: int) -> tuple[int, int, int] | None:
        """Return [height, width, channels] of a picture, or None if it is not there."""
        found = self._pictures.get(number)
        return None if found is None else (found.shape[0], found.shape[1], found.shape[2])

    def rows(self, number: int, top: int, bottom: int) -> Pixels | None:
        """Return some rows of a picture that is there."""
        return self._pictures[number][top:bottom]

    def put(self, number: int, pixels: Pixels) -> None:
        """Keep a picture if there is room."""
        with self._lock:
            if number in self._pictures:
                return
            if self._taken + pixels.nbytes > self._most:
                self._left_out += 1
                return
            self._taken += pixels.nbytes
            self._pictures[number] = pixels

    def remarks(self) -> list[str]:
        """Say once per epoch how many pictures were decoded because there was no room."""
        with self._lock:
            count, self._left_out = self._left_out, 0
        if not count:
            return []
        most = f"{self._most / 2**20:.0f} MB"
        return [f"the cache of pictures is full at {most} of memory: {count} pictures were decoded instead"]


class NoStore:
    """Keeps nothing, and says once why."""

    def __init__(self, reason: str) -> None:
        """Take the reason."""
        self._remarks = [reason]

    def shape(self, number: int) -> None:
        """Nothing is there."""

    def rows(self, number: int, top: int, bottom: int) -> None:
        """Nothing is there."""

    def put(self, number: int, pixels: Pixels) -> None:
        """Keep nothing."""

    def remarks(self) -> list[str]:
        """Say why nothing is kept, the first time."""
        said, self._remarks = self._remarks, []
        return said
