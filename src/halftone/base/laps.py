"""How long the stages of a piece of work took."""

import time


class Laps:
    """Seconds of stages that follow one another."""

    def __init__(self) -> None:
        """Begin the first stage."""
        self.seconds: dict[str, float] = {}
        """By the name of the stage."""
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a stage and begin the next one; a name that comes again adds up."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
