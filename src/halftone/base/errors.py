"""What can go wrong, as a tree. Every error carries a hint and the exit code of the command line.

HalftoneError
├── RecipeError        2   the request was wrong: a flag, a key, a value
├── DataError          3   the data is missing, broken or of another shape than expected
│   └── UnreadableImage    one image cannot be decoded
├── ModelFileError     4   a model, weight or checkpoint file is missing, damaged or does not fit
│   └── NewerFormat        it was written by a later version, whole as it may be
├── Diverged           5   training produced numbers that are not finite
├── ResourceError      6   the machine lacks something: a device, memory, disk, permission, package
└── Interrupted   75/130   stopped on request; everything needed to go on was saved
"""

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class HalftoneError(Exception):
    """The root. `str(error)` is one line; `error.hint` is the next action, or empty."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)


class RecipeError(HalftoneError):
    """The request was wrong: an unknown key, a value of the wrong type or out of range, a conflict."""

    exit_code = 2


class DataError(HalftoneError):
    """The data is missing, empty, broken, or its classes do not match."""

    exit_code = 3


class UnreadableImage(DataError):
    """One image cannot be decoded. Counted and skipped by the feeds, up to a limit."""


class ModelFileError(HalftoneError):
    """A model, weight or checkpoint file is missing, damaged, unsafe, or of another shape."""

    exit_code = 4


class NewerFormat(ModelFileError):
    """A file of a format that only later versions read. Nothing is wrong with it, so nothing may take its place."""


class Diverged(HalftoneError):
    """Training produced numbers that are not finite and could not go on."""

    exit_code = 5


class ResourceError(HalftoneError):
    """The machine lacks something: a device, memory, disk space, a permission, an optional package."""

    exit_code = 6


class Interrupted(HalftoneError):
    """Stopped on request after saving; `exit_code` is 130 for Ctrl-C and 75 for a termination signal."""

    exit_code = 75


def printable(text: str) -> str:
    """Escape what would break a line or a terminal: control characters, and bytes of file names that are no text."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def closest(word: str, options: Iterable[str]) -> str:
    """Return the hint "did you mean 'x'?" for the option nearest to `word`, by its whole or by its first part."""
    options = list(options)
    first_parts = {option.partition("-")[0]: option for option in reversed(options)}
    for known in ({option: option for option in options}, first_parts):
        matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
        if matches:
            return f"did you mean '{known[matches[0]]}'?"
    return ""


def listed(words: Iterable[str], *, most: int = 8) -> str:
    """Join words for a message, cutting a long list: "a, b, c and 12 more"."""
    words = list(words)
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"
