"""Settings by name on the command line: `head=fp32,features.*=bf16`."""

import re
from typing import Any

from halftone.base.lengths import parse_span


def parse_pairs(text: str, *, example: str, form: str = "LAYER=VALUE") -> dict[str, str]:
    """Read pairs of a name, such as a layer's, and a value; the later of two for one name wins.

    Args:
        text: pairs `NAME=VALUE` with commas or spaces between them.
        example: of one pair, for the error.
        form: of one pair, for the error.

    Raises:
        ValueError: a part is no such pair.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in re.split(r"[,\s]+", text))):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"'{part}' must be {form}, such as {example}")
        pairs[name] = value
    return pairs


def parse_span_pairs(value: Any, *, example: str, form: str = "LAYER=VALUE") -> Any:
    """Read lengths by name, as text or as a mapping; anything else is returned as it is.

    Raises:
        ValueError: a part of the text is no pair, or a length is none.
    """
    if value in (None, False, "none", "off", ""):
        return {}
    if isinstance(value, str):
        value = parse_pairs(value, example=example, form=form)
    return {name: parse_span(span) for name, span in value.items()} if isinstance(value, dict) else value
