"""What a verification says while it runs, and what it came to."""

from typing import Literal

from halftone.base.records import Record

Where = Literal["in a step", "in a save", "right after resuming"]


class Kill(Record):
    """One process that was ended by SIGKILL, and what it cost."""

    where: Where
    step: int
    """The last step of which something is known to be done."""
    resumed_from: int
    """The step that the newest whole checkpoint held."""

    @property
    def replayed(self) -> int:
        """Steps that are done once more."""
        return max(0, self.step - self.resumed_from)


class Trained(Record):
    """A process came to the end of its run."""

    name: str
    """Of the run: `straight`, `killed`, or `again`."""
    seconds: float


class Verdict(Record):
    """Whether the run that was killed ended as the one that was not."""

    exact: bool
    num_steps: int
    digest: str
    """SHA-256 over the final state of the run that was never stopped."""
    kills: tuple[Kill, ...]
    differences: tuple[str, ...] = ()
    """The first in each table and file, each with the component's name."""
    repeats: bool | None = None
    """Where there are differences: whether two runs that were never stopped are alike."""

    @property
    def replayed(self) -> int:
        """Steps that were done more than once."""
        return sum(kill.replayed for kill in self.kills)


Event = Trained | Kill | Verdict
