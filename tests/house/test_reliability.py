"""docs/reliability.md tells the truth: each fault of the catalogue has a row, and each row tests that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.catalogue import CATALOGUE

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
_ROW = re.compile(r"^\| ([A-F]\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def numbers(name: str) -> list[str]:
    """Return the faults in the name of a test: D18 and D19 in `test_D18_D19_a_damaged_checkpoint`."""
    found = re.match(r"test_((?:[A-F]\d+_)+)", name)
    return found[1].strip("_").split("_") if found else []


def names_in(text: str) -> Iterator[str]:
    """Yield the names of the tests of a file, as pytest would collect them."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def rows_of(page: str) -> dict[str, str]:
    """Return what stands in the last column of each row, by the fault's number.

    Raises:
        ValueError: a row is there twice.
    """
    rows: dict[str, str] = {}
    for number, _, _, held_by in _ROW.findall(page):
        if number in rows:
            raise ValueError(f"{number} is there twice")
        rows[number] = held_by.strip()
    return rows


def untold(rows: dict[str, str], tested: set[str]) -> dict[str, str]:
    """Return what is wrong with each row that neither has a test nor says in a sentence why it has none."""
    wrong = {}
    for number, held_by in rows.items():
        if held_by == f"`{number}_`":
            if number not in tested:
                wrong[number] = "no test has it in its name"
        elif not re.fullmatch(r"not here: .{20,}", held_by):
            wrong[number] = f"neither its tests nor a sentence: {held_by}"
        elif number in tested:
            wrong[number] = "it says that it has no test, and has one"
    return wrong


NAMES = [name for path in sorted(TESTS.rglob("test_*.py")) for name in names_in(path.read_text("utf-8"))]
TESTED = {number for name in NAMES for number in numbers(name)}


def test_there_are_tests_to_read() -> None:
    assert len(NAMES) > 500
    assert len(TESTED) > 80


def test_the_page_has_the_rows_of_the_catalogue_in_its_order() -> None:
    assert len(CATALOGUE) == 110
    assert list(rows_of(PAGE.read_text("utf-8"))) == CATALOGUE


def test_numbers_in_names_of_tests_are_those_of_the_catalogue() -> None:
    assert TESTED - set(CATALOGUE) == set()


@pytest.mark.parametrize("number", CATALOGUE)
def test_a_row_has_tests_or_says_why_not(number: str) -> None:
    rows = rows_of(PAGE.read_text("utf-8"))
    assert untold({number: rows[number]}, TESTED) == {}


def test_a_row_without_its_test_is_seen() -> None:
    rows = {"A1": "`A1_`", "A2": "`A2_`", "A3": "`A4_`", "A4": "not here: this machine has no GPU to break", "A5": ""}
    wrong = untold(rows, {"A1", "A3"})
    assert set(wrong) == {"A2", "A3", "A5"}
    assert set(untold({"A4": rows["A4"]}, {"A4"})) == {"A4"}
    assert rows_of("| A1 | a | b | `A1_` |\n| A2 | a | `A2_` |\n") == {"A1": "`A1_`"}
    with pytest.raises(ValueError, match="twice"):
        rows_of("| A1 | a | b | c |\n" * 2)


def test_names_are_read_as_pytest_would() -> None:
    assert numbers("test_D18_D19_a_damaged_checkpoint") == ["D18", "D19"]
    assert numbers("test_damage") == numbers("test_D_x") == []
    assert list(names_in("def test_a(): pass\ndef helper(): pass\nclass X:\n    def test_b(self): pass\n")) == [
        "test_a"
    ]


def test_figures_name_commands_that_exist() -> None:
    page = PAGE.read_text("utf-8").partition("## Figures")[2].partition("## A.")[0]
    files = set(re.findall(r"pytest (tests/\S+\.py)", page))
    modules = set(re.findall(r"python -m (benchmarks\.\w+)", page))
    assert files and modules
    assert [name for name in files if not (TESTS.parent / name).is_file()] == []
    places = {name: TESTS.parent / name.replace(".", "/") for name in modules}
    assert [name for name, place in places.items() if not (place.is_dir() or place.with_suffix(".py").is_file())] == []
