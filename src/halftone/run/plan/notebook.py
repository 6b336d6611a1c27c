"""Where the planner writes down what it chose and why."""

from typing import Any

from halftone.base.records import Auto
from halftone.run.plan.decide import Decision, Value
from halftone.run.plan.record import Choice


class Notebook:
    """Collects choices; a setting that somebody asked for is no choice of ours."""

    def __init__(self) -> None:
        """Start empty."""
        self.choices: list[Choice] = []

    def note(self, setting: str, value: Any, reason: str) -> None:
        """Write down a choice."""
        self.choices.append(Choice(setting=setting, value=str(value), reason=reason))

    def settle(self, setting: str, asked: Value | Auto, decision: Decision[Value]) -> Value:
        """Return what was asked, or what was decided in place of `auto`, with a note."""
        if asked != "auto":
            return asked
        self.note(setting, decision.value, decision.reason)
        return decision.value
