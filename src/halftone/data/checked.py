"""All that a look at a data set found, and what of it is a problem."""

from collections.abc import Sequence
from dataclasses import dataclass

from halftone.data.check import PartCheck
from halftone.data.copies import Copies
from halftone.data.labelled import LeftOut


@dataclass(frozen=True, slots=True)
class Checked:
    """A data set after the look."""

    name: str
    parts: Sequence[PartCheck]
    copies: Sequence[Copies]
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()

    @property
    def missed(self) -> list[LeftOut]:
        """What was left out although it is called as images are: links that lead nowhere, pipes."""
        return [other for other in self.left_out if other.meant]

    @property
    def leaks(self) -> list[Copies]:
        """What lies in several parts: what is learned in one is asked in the other."""
        return [group for group in self.copies if len(group.parts) > 1]

    @property
    def contradictions(self) -> list[Copies]:
        """What carries several labels."""
        return [group for group in self.copies if len(group.labels) > 1]

    @property
    def contradicting(self) -> list[Copies]:
        """Of the contradictions, what lies in one part."""
        return [group for group in self.contradictions if len(group.parts) == 1]

    @property
    def harmless(self) -> list[Copies]:
        """What is there several times in one part under one label."""
        return [group for group in self.copies if len(group.parts) == len(group.labels) == 1]

    @property
    def num_problems(self) -> int:
        """How much is wrong: unreadable, suspicious or missed files, leaks and contradictions."""
        files = sum(len(check.faults) + len(check.suspects) for check in self.parts)
        return files + len(self.missed) + len(self.leaks) + len(self.contradictions)
