"""What a look at the machine brings back."""

from typing import Literal

from halftone.base.records import Record

State = Literal["good", "note", "bad"]


class Finding(Record):
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    advice: str = ""
