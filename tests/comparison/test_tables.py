"""runs.csv and verdict.json: the same numbers, exactly, and nothing made up where there are none."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from comparison.examples import four_variants, two_variants
from halftone.base.files import read_json
from halftone.comparison.records import Comparison
from halftone.comparison.tables import write_runs, write_verdict


def rows_of(comparison: Comparison, folder: Path) -> list[dict[str, str]]:
    write_runs(comparison, folder / "runs.csv")
    with (folder / "runs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_per_run_with_exactly_its_numbers(tmp_path: Path) -> None:
    comparison = four_variants()
    rows = rows_of(comparison, tmp_path)
    assert len(rows) == len(comparison.outcomes) == 20
    for row, run in zip(rows, comparison.outcomes, strict=True):
        assert (row["variant"], int(row["seed"]), row["status"]) == (run.variant, run.seed, run.status)
        assert int(row["skipped_steps"]) == run.skipped_steps
        for name in ("train_seconds", "startup_seconds", "images_per_second", "peak_memory_mb"):
            assert row[name] == ("" if getattr(run, name) is None else repr(getattr(run, name)))
        if run.metrics is not None:
            for name in ("accuracy", "loss", "precision", "recall", "f1", "calibration_error", "top5"):
                assert float(row[f"val_{name}"]) == getattr(run.metrics, name)


def test_settings_have_columns_as_asked_and_as_settled(tmp_path: Path) -> None:
    row = rows_of(four_variants(), tmp_path)[3]
    assert (row["asked.precision"], row["asked.warmup"]) == ("fp16", "3ep")
    assert (row["settled.precision"], row["settled.lr"]) == ("fp16", "0.1")


def test_what_is_unknown_is_empty(tmp_path: Path) -> None:
    broken = next(row for row in rows_of(four_variants(), tmp_path) if row["status"] == "diverged")
    for name in ("joules", "device_memory_mb", "val_accuracy", "train_seconds", "seconds_to_target", "settled.lr"):
        assert broken[name] == ""
    assert broken["fault"].startswith("training diverged")


def test_time_to_target_is_the_end_of_the_first_epoch_that_reaches_it(tmp_path: Path) -> None:
    comparison = two_variants()
    assert comparison.target is not None
    for row, run in zip(rows_of(comparison, tmp_path), comparison.outcomes, strict=True):
        reached = [point.seconds for point in run.epochs if (point.val_accuracy or 0) >= comparison.target]
        assert float(row["seconds_to_target"]) == min(reached)


@pytest.mark.parametrize("make", [two_variants, four_variants])
def test_verdict_json_holds_the_whole_comparison(tmp_path: Path, make: Callable[[], Comparison]) -> None:
    comparison, path = make(), tmp_path / "verdict.json"
    write_verdict(comparison, path)
    assert Comparison.parse(read_json(path)) == comparison


def test_people_find_the_verdicts_above_the_runs(tmp_path: Path) -> None:
    comparison = two_variants()
    write_verdict(comparison, tmp_path / "verdict.json")
    lines = (tmp_path / "verdict.json").read_text("utf-8").splitlines()
    told = next(number for number, line in enumerate(lines) if line.strip().startswith('"sentence": '))
    runs = [number for number, line in enumerate(lines) if line.strip().startswith('{"variant"')]
    assert told < 60
    assert len(runs) == 10
    assert told < min(runs)


def test_names_with_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    odd = "folder-\udcff"
    comparison = two_variants(seeds=1)
    runs = tuple(run.replaced(folder=odd) for run in comparison.outcomes)
    comparison = comparison.replaced(name=odd, outcomes=runs)
    write_verdict(comparison, tmp_path / "verdict.json")
    write_runs(comparison, tmp_path / "runs.csv")
    assert Comparison.parse(read_json(tmp_path / "verdict.json")) == comparison
