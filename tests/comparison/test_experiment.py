"""Whole comparisons on the embedded digits: runs in pairs, kills, faults. One process trains them all."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import halftone as ht
from halftone.comparison.existing import compare_folders, parse_groups
from halftone.comparison.experiment import Begun, Compared, CompareEvent, Experiment, RunDone, comparing
from halftone.comparison.pages.page import write_page
from halftone.comparison.records import CompareConfig, Comparison, Outcome
from halftone.comparison.results import write_results
from halftone.comparison.trainers.outcome import Watched
from halftone.comparison.trainers.pool import RunEpoch
from halftone.comparison.vary import parse_varied, variants_of
from halftone.run.folder import RunFolder
from halftone.run.stopping import StopRequest

BASE = {
    "data": {"source": "digits"},
    "model": "plain4",
    "epochs": 2,
    "max_steps": 20,
    "batch_size": 128,
    "precision": "fp32",
    "optimizer": {"name": "sgd", "lr": 0.05},
    "warmup": "none",
    "threads": 1,
}


def experiment(*varied: str, seeds: int = 2, until: str = "all", **base: object) -> Experiment:
    return Experiment(
        config=CompareConfig.parse({"seeds": seeds, "until": until}),
        variants=variants_of(parse_varied(varied), pairs=False),
        base={**BASE, **base},
        devices=("",),
    )


def result(events: Iterator[CompareEvent]) -> Comparison:
    return next(event.comparison for event in events if isinstance(event, Compared))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[CompareEvent]]:
    folder = tmp_path_factory.mktemp("comparison")
    events = list(comparing(experiment("lr=0.05,1e6", run={"tensorboard": True}), folder))
    last = events[-1]
    assert isinstance(last, Compared)
    return folder, last.comparison, events


def test_runs_take_turns_and_share_what_they_can(finished: tuple[Path, Comparison, list[CompareEvent]]) -> None:
    _, comparison, events = finished
    turns = [(event.outcome.seed, event.outcome.variant) for event in events if isinstance(event, RunDone)]
    assert turns == [(0, "lr=0.05"), (0, "lr=1e6"), (1, "lr=1e6"), (1, "lr=0.05")]
    for seed in (0, 1):
        digests = [outcome.digests for outcome in comparison.outcomes if outcome.seed == seed]
        assert digests[0] == digests[1]
        assert all((digests[0].weights, digests[0].order, digests[0].images))
    first, other = (outcome.digests for outcome in comparison.outcomes if outcome.variant == "lr=0.05")
    assert first.weights != other.weights
    assert first.order != other.order
    assert any("same weights" in note for note in comparison.notes)


def test_each_run_is_measured_by_itself(finished: tuple[Path, Comparison, list[CompareEvent]]) -> None:
    _, comparison, events = finished
    sound = [outcome for outcome in comparison.outcomes if outcome.variant == "lr=0.05"]
    for outcome in sound:
        assert outcome.status == "finished"
        assert outcome.metrics is not None
        assert outcome.metrics.accuracy == outcome.epochs[outcome.best_epoch - 1].val_accuracy
        assert outcome.train_seconds is not None
        assert 0 < outcome.train_seconds < outcome.epochs[-1].seconds
        assert outcome.startup_seconds is not None
        assert outcome.startup_seconds > 0
        assert outcome.peak_memory_mb is not None
        assert outcome.peak_memory_mb > 100
        assert outcome.settled["optimizer.lr"] == "0.05"
    assert comparison.environment["torch"]
    assert sum(isinstance(event, RunEpoch) for event in events) >= 4


def test_runs_tell_whoever_they_are_asked_to_tell_under_one_group(
    finished: tuple[Path, Comparison, list[CompareEvent]],
) -> None:
    folder, comparison, _ = finished
    for outcome in comparison.outcomes:
        run = RunFolder(folder / outcome.folder)
        assert list(run.path.glob("events.out.tfevents.*"))
        assert not run.report.exists()
        assert run.read_plan().settled.run.group == folder.name


def test_a_variant_that_diverges_is_a_result(finished: tuple[Path, Comparison, list[CompareEvent]]) -> None:
    _, comparison, _ = finished
    wild = [outcome for outcome in comparison.outcomes if outcome.variant == "lr=1e6"]
    assert {outcome.status for outcome in wild} <= {"diverged", "finished"}
    (verdict,) = comparison.verdicts
    assert verdict.kind not in ("equivalent", "better")
    assert any(outcome.skipped_steps or outcome.status == "diverged" or _guesses(outcome) for outcome in wild)


def _guesses(outcome: Outcome) -> bool:
    return outcome.metrics is not None and (outcome.metrics.accuracy or 0) < 0.3


def test_nothing_is_trained_twice_and_more_seeds_are_added(
    finished: tuple[Path, Comparison, list[CompareEvent]],
) -> None:
    folder, comparison, _ = finished
    again = Experiment.load(folder)
    events = list(comparing(again, folder))
    assert not [event for event in events if isinstance(event, RunDone)]
    assert result(iter(events)).outcomes == comparison.outcomes
    assert result(iter(events)).verdicts == comparison.verdicts
    more = again.replaced(config=again.config.replaced(seeds=3))
    done = [event.outcome.seed for event in comparing(more, folder) if isinstance(event, RunDone)]
    assert done == [2, 2]


def test_the_files_hold_it(finished: tuple[Path, Comparison, list[CompareEvent]], tmp_path: Path) -> None:
    _, comparison, _ = finished
    page = write_results(comparison, tmp_path)
    assert comparison.verdicts[0].sentence.split(" (")[0] in page.read_text()
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 5


def test_killed_and_stopped_it_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    wish = experiment("precision=fp32,bf16", seeds=1, epochs=4, max_steps=40)
    straight = result(comparing(wish, tmp_path / "straight"))
    stop, folder = StopRequest(), tmp_path / "stopped"
    with pytest.raises(ht.Interrupted, match="of 2 runs") as caught:
        for event in comparing(wish, folder, stop=stop):
            if isinstance(event, RunEpoch) and event.epoch == 2:
                stop.signal = signal.SIGTERM
    assert "--resume" in caught.value.hint
    seen: list[str] = []
    resumed = result(_noted(comparing(Experiment.load(folder), folder), seen))
    assert "Begun" in seen
    for ours, theirs in zip(resumed.outcomes, straight.outcomes, strict=True):
        assert ours.metrics == theirs.metrics
        assert ours.digests == theirs.digests
    assert any("interrupted" in note for note in resumed.notes)


def _noted(events: Iterator[CompareEvent], seen: list[str]) -> Iterator[CompareEvent]:
    for event in events:
        seen.append(type(event).__name__)
        yield event


def test_a_run_whose_process_is_killed_is_a_result_and_is_tried_again(tmp_path: Path) -> None:
    wish = experiment("batch_size=128,64", seeds=1, epochs=4, max_steps=44)
    killed = False
    done: list[str] = []
    for event in comparing(wish, tmp_path):
        if isinstance(event, RunEpoch) and not killed:
            killed = True
            os.kill(_process_in(event.job.path), signal.SIGKILL)
        if isinstance(event, RunDone):
            done.append(event.outcome.status)
    assert done == ["failed", "finished"]
    fault = Watched.load(next((tmp_path / "runs").glob("0-*"))).fault
    assert "signal 9" in fault
    again = [event.outcome.status for event in comparing(wish, tmp_path) if isinstance(event, RunDone)]
    assert again == ["finished"]


def _process_in(folder: Path) -> int:
    """Return the process that holds a run's folder."""
    return int((folder / ".lock").read_text().split()[1])


def test_runs_that_were_trained_elsewhere_are_paired_by_seed(
    finished: tuple[Path, Comparison, list[CompareEvent]], tmp_path: Path
) -> None:
    folder, comparison, _ = finished
    runs = folder / "runs"
    names = {kind: ",".join(str(path) for path in sorted(runs.glob(f"{kind}-*seed-[01]"))) for kind in "01"}
    groups = parse_groups([f"old={names['0']}", f"new={names['1']}"])
    found = compare_folders(groups, CompareConfig(), command="")
    assert [one.seed for one in found.outcomes] == [0, 1, 0, 1]
    assert "4 runs: 2 variants, 2 seeds." in write_page(found, tmp_path).read_text()
    assert found.verdicts[0].kind == comparison.verdicts[0].kind
    with pytest.raises(ht.RecipeError, match="both have the seed 0"):
        compare_folders({"a": groups["old"][:1] * 2, "b": groups["new"]}, CompareConfig(), command="")
    with pytest.raises(ht.RecipeError, match="no seed in common"):
        compare_folders({"a": groups["old"][:1], "b": groups["new"][1:]}, CompareConfig(), command="")


def test_the_verb_returns_a_table(tmp_path: Path) -> None:
    recipe = ht.Recipe(**{**BASE, "epochs": 1, "max_steps": 5, "run": {"root": str(tmp_path)}})
    run = ht.compare(recipe, vary={"batch_size": [128, 64]}, seeds=1)
    assert [row["batch_size"] for row in run.rows()] == ["128", "64"]
    table = run.to_pandas()
    assert list(table["val_accuracy"]) == [row["val_accuracy"] for row in run.rows()]
    assert (run.path / "compare.html").is_file()
    with pytest.raises(ht.RecipeError, match="two values"):
        ht.compare(recipe, vary={"batch_size": [128]})


def test_an_event_says_where_it_begins(tmp_path: Path) -> None:
    wish = experiment("batch_size=128,64", seeds=1, data={"source": "nowhere"})
    events = comparing(wish, tmp_path)
    begun = next(events)
    assert isinstance(begun, Begun)
    assert [event.outcome.status for event in events if isinstance(event, RunDone)] == ["failed", "failed"]
