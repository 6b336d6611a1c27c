"""The list of guards that `python -m benchmarks.guard_mutation` removes is that of the source as it is now."""

import re
from pathlib import Path

import pytest
from benchmarks.guard_mutation.__main__ import Finding, stale, try_without
from benchmarks.guard_mutation.guards import GUARDS, Guard

from house.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]


def test_each_guard_stands_where_the_list_says() -> None:
    assert stale(GUARDS) == []


def test_the_list_is_of_some_length_and_names_rows_and_tests_that_exist() -> None:
    assert len(GUARDS) >= 60
    assert {guard.row for guard in GUARDS} <= {row for row in CATALOGUE if row[0] in "CD"}
    assert [guard.tests for guard in GUARDS if not (ROOT / guard.tests).is_file()] == []
    assert len({(guard.place, guard.found, guard.instead) for guard in GUARDS}) == len(GUARDS)


def test_a_guard_that_is_gone_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("if x:\n    pass\nif x:\n    pass\nif y: ...\n")
    gone = Guard("D1", "gone", "a.py", "if z:", "", "tests")
    twice = Guard("D1", "twice", "a.py", "if x:", "", "tests")
    same = Guard("D1", "same", "a.py", "if y:", "if y:", "tests")
    fine = Guard("D1", "fine", "a.py", "if y:", "", "tests")
    assert [re.split(": ", text)[0] for text in stale([gone, twice, same, fine], tmp_path)] == [
        "D1 gone",
        "D1 twice",
        "D1 same",
    ]


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ([0, 1], "killed"),
        ([0, None], "killed"),
        ([0, 0], "survived"),
        ([1], "its tests do not pass with it (pytest: 1)"),
        ([5], "its tests do not pass with it (pytest: 5)"),
        ([0, 2], "not tried (pytest: 2)"),
    ],
)
def test_only_a_test_that_fails_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: list[int | None], outcome: str
) -> None:
    (tmp_path / "a.py").write_text("if y: ...\n")
    left = iter(codes)
    monkeypatch.setattr("benchmarks.guard_mutation.__main__._run_tests", lambda *_: (next(left), ""))
    found: Finding = try_without(Guard("D1", "it", "a.py", "if y:", "if n:", "tests"), tmp_path, {})
    assert found.outcome == outcome
    assert (tmp_path / "a.py").read_text() == "if y: ...\n"
