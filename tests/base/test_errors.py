"""The tree of errors: one line, a hint, an exit code."""

import pytest

from halftone.base.errors import (
    DataError,
    Diverged,
    HalftoneError,
    Interrupted,
    ModelFileError,
    RecipeError,
    ResourceError,
    UnreadableImage,
    closest,
    listed,
    printable,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (RecipeError, 2),
        (DataError, 3),
        (UnreadableImage, 3),
        (ModelFileError, 4),
        (Diverged, 5),
        (ResourceError, 6),
        (Interrupted, 75),
    ],
)
def test_each_error_has_its_exit_code(kind: type[HalftoneError], code: int) -> None:
    error = kind("it failed", hint="do this")
    assert (error.exit_code, str(error), error.hint) == (code, "it failed", "do this")
    assert isinstance(error, HalftoneError)
    assert kind("it failed").hint == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.jpg", r"a\nb.jpg"),
        ("a\r\x1b[31m.jpg", r"a\r\x1b[31m.jpg"),
        ("a\udcff.jpg", r"a\udcff.jpg"),
        ("a\u2028b", r"a\u2028b"),
        ("Blüte 花 🌸.jpg", "Blüte 花 🌸.jpg"),
    ],
)
def test_A23_A24_a_message_is_one_printable_line(name: str, shown: str) -> None:
    message = str(DataError(f"cannot read {name}"))
    assert message == f"cannot read {shown}"
    assert len(message.splitlines()) == 1
    message.encode("utf-8")
    assert printable(printable(name)) == printable(name)


def test_closest_suggests_only_what_is_close() -> None:
    assert closest("resnet5", ["resnet50", "vgg16"]) == "did you mean 'resnet50'?"
    assert closest("xavir", ["normal", "xavier-normal", "xavier-uniform"]) == "did you mean 'xavier-normal'?"
    assert closest("banana", ["resnet50", "vgg16"]) == ""
    assert closest("x", []) == ""


def test_listed_cuts_long_lists() -> None:
    assert listed([]) == ""
    assert listed(str(number) for number in range(3)) == "0, 1, 2"
    assert listed((str(number) for number in range(20)), most=2) == "0, 1 and 18 more"
