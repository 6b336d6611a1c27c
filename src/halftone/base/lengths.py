"""Lengths of training: `5ep` (epochs), `500it` (optimizer steps), `5%` (of the whole run). One type for all."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_PATTERN = re.compile(r"^\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(ep|it|%)\s*$")
_NONE = {"none", "off", "0"}


@dataclass(frozen=True, slots=True)
class Span:
    """A length as it was written: an amount and its unit."""

    amount: float
    unit: Literal["ep", "it", "%"]

    def __str__(self) -> str:
        amount = int(self.amount) if float(self.amount).is_integer() else self.amount
        return f"{amount}{self.unit}"

    def __bool__(self) -> bool:
        return self.amount > 0

    def steps(self, *, steps_per_epoch: int, total_steps: int) -> int:
        """Convert to optimizer steps, rounded to the nearest and never below one for a positive length."""
        scale = {"ep": float(steps_per_epoch), "it": 1.0, "%": total_steps / 100}[self.unit]
        return max(round(self.amount * scale), 1) if self.amount else 0


def parse_span(value: Any) -> Span:
    """Read `5ep`, `500it`, `5%` or `none`.

    Raises:
        ValueError: anything else; the message says what is allowed.
    """
    if isinstance(value, Span):
        return value
    text = str(value).lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text in _NONE or value is False or value is None:
        return Span(0, "it")
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError("a length is a number with a unit: 5ep (epochs), 500it (optimizer steps) or 5% (of the run)")
    amount, unit = float(match[1]), match[2]
    if unit == "it" and not amount.is_integer():
        raise ValueError("a length in steps is a whole number, such as 500it")
    if unit == "%" and amount > 100:
        raise ValueError("a length in per cent is at most 100%")
    if not amount:
        return Span(0, "it")
    return Span(amount, unit)  # type: ignore[arg-type]


def written_spans(value: Mapping[Any, Span]) -> dict[Any, str]:
    """Return lengths by name as they are written in a recipe."""
    return {name: str(span) if span else "none" for name, span in value.items()}


Length = Annotated[
    Span,
    BeforeValidator(parse_span),
    PlainSerializer(lambda span: str(span) if span else "none", return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PATTERN.pattern}),
]
"""The type of a recipe field that holds a length."""
