"""Studies in one process: what they leave behind, what they say, and that going on equals never having stopped."""

import csv
import json
import math
import signal
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from scipy import stats

from halftone.base.errors import Interrupted, RecipeError, ResourceError
from halftone.base.tables import read_table
from halftone.run.recipe import Recipe, read_recipe
from halftone.run.stopping import StopRequest
from halftone.tune.config import TuneConfig
from halftone.tune.opening import open_study
from halftone.tune.records import (
    Outcome,
    Remark,
    StudyDone,
    StudyOpened,
    Summary,
    TrialDone,
    TrialEpoch,
    TrialStarted,
    TuneEvent,
)
from halftone.tune.study import tune, tuning
from halftone.tune.summary import amount, best_outcome, confirmation, in_words
from halftone.verbs import train
from samples import numbers, wish, write_npz

SPACE = {"lr": "log:1e-4..1", "warmup": "none,10%,20%"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz", size=8)


def asked(data: Path, root: Path, **settings: Any) -> Recipe:
    optimizer = {"name": "sgd", "probe_seconds": 0, **settings.pop("optimizer", {})}
    return wish(data, root, optimizer=optimizer, **settings)


@pytest.fixture(scope="module")
def found(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A study of four trials, which some tests look at."""
    root = tmp_path_factory.mktemp("runs")
    return tune(asked(tiny, root), SPACE, TuneConfig(trials=4, pruner="none"), study="first")


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_a_study_leaves_its_runs_and_its_files(found: Summary) -> None:
    folder = Path(found.folder)
    assert [outcome.number for outcome in found.outcomes] == [0, 1, 2, 3]
    assert found.outcomes[0].values == {}
    assert all(set(outcome.values) == {"lr", "warmup"} for outcome in found.outcomes[1:])
    for outcome in found.outcomes:
        run = folder / outcome.folder
        rows = read_table(run / "results.csv")
        assert outcome.status == "finished"
        assert outcome.num_epochs == len(rows) == 2
        assert outcome.value == max(float(row["val_accuracy"]) for row in rows)
        assert outcome.value == float(rows[outcome.epoch - 1]["val_accuracy"])
        assert not (run / "report.html").exists()
        assert not list(run.glob("events.out*"))
        assert not list((run / "checkpoints").iterdir())
        assert (run / "best.safetensors").is_file()
        assert Outcome.model_validate_json((run / "trial.json").read_text()) == outcome
    assert is_png(folder / "history.png")
    assert is_png(folder / "slices.png")
    assert Summary.model_validate_json((folder / "study.json").read_text()) == found
    with (folder / "trials.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["lr"] for row in table] == ["", *(outcome.values["lr"] for outcome in found.outcomes[1:])]
    assert [float(row["value"]) for row in table] == [outcome.value for outcome in found.outcomes]


def test_all_runs_have_one_seed_and_the_values_of_their_trial(found: Summary) -> None:
    for outcome in found.outcomes[1:]:
        recipe = read_recipe(Path(found.folder) / outcome.folder / "recipe.yaml")
        assert recipe.seed == 0
        assert recipe.optimizer.lr == float(outcome.values["lr"])


def test_it_says_whether_the_best_beats_the_defaults(found: Summary) -> None:
    assert found.sentences == in_words(found)
    best, defaults = found.outcome(found.best or 0), found.outcomes[0]
    assert best is not None
    assert best.value == max(outcome.value or 0 for outcome in found.outcomes)
    said = " ".join(found.sentences)
    assert amount("accuracy", best.value) in said
    if best.number:
        assert f"trial {best.number} is the best" in said
        assert f"have {amount('accuracy', defaults.value)}" in said
        assert "optimistic" in said


def test_the_recipe_of_the_best_trains_it_again_to_the_last_bit(found: Summary, tmp_path: Path) -> None:
    assert found.recipe is not None and found.best is not None
    again = train(read_recipe(Path(found.recipe), {"run": {"root": tmp_path, "report": False, "tensorboard": False}}))
    best = found.outcomes[found.best]
    assert numbers(again.path, "results.csv") == numbers(Path(found.folder) / best.folder, "results.csv")
    assert numbers(again.path, "steps.csv") == numbers(Path(found.folder) / best.folder, "steps.csv")


def test_the_recipe_of_adaptive_defaults_trains_them_again(tiny: Path, tmp_path: Path) -> None:
    """What the plan decided is in the file, or the warmup would be decided anew."""
    summary = tune(asked(tiny, tmp_path), SPACE, TuneConfig(trials=1), study="one")
    assert summary.best == 0
    assert summary.recipe is not None
    again = train(read_recipe(Path(summary.recipe), {"run": {"root": tmp_path, "report": False, "tensorboard": False}}))
    assert again.plan.settled.warmup.shape == "adaptive"
    assert numbers(again.path, "steps.csv") == numbers(tmp_path / "one/trial-000", "steps.csv")


def stopped_after(events: "list[TuneEvent]", recipe: Recipe, config: TuneConfig, epochs: int) -> None:
    """Run a study until some epochs are done, and ask it to stop there."""
    stop = StopRequest()
    for event in tuning(recipe, SPACE, config, study="halted", stop=stop):
        events.append(event)
        if isinstance(event, TrialEpoch):
            epochs -= 1
            if epochs == 0:
                stop.signal = signal.SIGTERM


def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been(found: Summary, tiny: Path, tmp_path: Path) -> None:
    recipe, config = asked(tiny, tmp_path), TuneConfig(trials=4, pruner="none")
    before: list[TuneEvent] = []
    with pytest.raises(Interrupted, match="1 of 4 trials are done") as caught:
        stopped_after(before, recipe, config, epochs=3)
    assert caught.value.exit_code == 75
    assert "--study halted" in caught.value.hint
    assert len(read_table(tmp_path / "halted/trials.csv")) == 1
    events = list(tuning(recipe, SPACE, config, study="halted"))
    assert isinstance(events[0], StudyOpened)
    assert events[0].num_done == 1
    started = [event for event in events if isinstance(event, TrialStarted)]
    assert [(event.label, event.resumed) for event in started][:2] == [("trial 1", True), ("trial 2", False)]
    epochs = [event.epoch for event in events if isinstance(event, TrialEpoch) and event.label == "trial 1"]
    assert epochs == [2]  # the first one was done before
    assert isinstance(events[-1], StudyDone)
    ours = [outcome.replaced(seconds=0.0) for outcome in events[-1].summary.outcomes]
    assert ours == [outcome.replaced(seconds=0.0) for outcome in found.outcomes]


def test_a_finished_study_trains_nothing_and_a_longer_one_goes_on(found: Summary, tiny: Path) -> None:
    recipe = asked(tiny, Path(found.folder).parent)
    events = list(tuning(recipe, SPACE, TuneConfig(trials=4, pruner="none"), study="first"))
    assert [type(event) for event in events] == [StudyOpened, StudyDone]
    more = tune(recipe, SPACE, TuneConfig(trials=5, pruner="none"), study="first")
    assert more.outcomes[:4] == found.outcomes
    assert len(more.outcomes) == 5


def test_another_search_cannot_join(found: Summary, tiny: Path) -> None:
    root = Path(found.folder).parent
    with pytest.raises(RecipeError, match=r"other settings \(space, lr: log:0.0001..1, now log:0.001..1\)"):
        tune(asked(tiny, root), {**SPACE, "lr": "log:1e-3..1"}, study="first")
    with pytest.raises(RecipeError, match=r"other settings \(recipe, epochs: 2, now 3\)"):
        tune(asked(tiny, root, epochs=3), SPACE, study="first")


def test_a_folder_that_is_no_study_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    train(asked(tiny, tmp_path, run={"name": "taken"}, epochs=1))
    with pytest.raises(RecipeError, match="is taken"):
        tune(asked(tiny, tmp_path), SPACE, study="taken")


def test_a_wrong_request_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the whole run has"):
        tune(asked(tiny, tmp_path / "runs", warmup="5ep"), {"lr": "log:1e-4..1"}, study="never")
    with pytest.raises(RecipeError, match="must be a name"):
        tune(asked(tiny, tmp_path / "runs"), SPACE, study="a/b")
    assert not (tmp_path / "runs").exists()


def test_poor_trials_end_early_and_their_folder_says_so(tiny: Path, tmp_path: Path) -> None:
    space = {"lr": "0.05,0.02,1e-5,1e-6"}
    summary = tune(asked(tiny, tmp_path, epochs=4), space, TuneConfig(trials=5, sampler="grid"), study="pruned")
    assert sorted(outcome.values.get("lr", "") for outcome in summary.outcomes) == ["", "0.02", "0.05", "1e-5", "1e-6"]
    pruned = [outcome for outcome in summary.outcomes if outcome.status == "pruned"]
    assert pruned
    for outcome in pruned:
        run = tmp_path / "pruned" / outcome.folder
        assert outcome.num_epochs == len(read_table(run / "results.csv")) < 4
        assert json.loads((run / "trial.json").read_text())["status"] == "pruned"
    assert summary.outcomes[0].status == "finished"
    best = summary.outcome(summary.best or 0)
    assert best is not None and best.status == "finished"


def test_a_trial_that_diverges_is_a_result(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path, warmup="none", precision={"mode": "fp32", "max_skipped": 2}, batch_size=8)
    summary = tune(recipe, {"lr": "0.02,1e6"}, TuneConfig(trials=3, sampler="grid"), study="wild")
    status = {outcome.values.get("lr"): outcome for outcome in summary.outcomes}
    assert status["1e6"].status == "diverged"
    assert status["1e6"].value is None
    assert "training diverged" in status["1e6"].fault
    assert status["0.02"].status == "finished"
    assert "1 diverged" in summary.sentences[0]


def test_values_that_do_not_go_together_fail_alone(tiny: Path, tmp_path: Path) -> None:
    space = {"accumulate": "1,16", "batch_size": "8,16"}
    recipe = asked(tiny, tmp_path, epochs=1, accumulate=1)
    summary = tune(recipe, space, TuneConfig(trials=9, sampler="grid"), study="odd")
    failed = [outcome for outcome in summary.outcomes if outcome.status == "failed"]
    assert [outcome.values for outcome in failed] == [{"accumulate": "16", "batch_size": "8"}]
    assert "a part would be empty" in failed[0].fault
    assert len(summary.outcomes) == 4  # of the grid, the point of the defaults is theirs


def test_defaults_within_the_space_take_part_in_the_search(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path, optimizer={"lr": 0.02}, warmup="10%", epochs=1)
    config = TuneConfig(trials=1)
    study = open_study(recipe, SPACE, config, name="inside", storage=None, data=None, stop=StopRequest())
    try:
        claim = study.search.claim()
        assert claim is not None
        assert claim.values == {}
        assert claim.trial.params == {"lr": 0.02, "warmup": "10%"}
        study.search.finish(claim, Outcome(number=0, folder="trial-000", values={}, status="finished", value=0.5))
        assert study.search.study.best_trial.number == 0
        assert study.search.claim() is None
    finally:
        study.search.close()


def test_the_loss_and_the_last_epoch_can_judge(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path, stop={"metric": "loss"})
    summary = tune(recipe, SPACE, TuneConfig(trials=3, judged="last"), study="loss")
    finished = [outcome for outcome in summary.outcomes if outcome.status == "finished"]
    for outcome in finished:
        assert outcome.epoch == 2
        assert outcome.value == float(read_table(tmp_path / "loss" / outcome.folder / "results.csv")[-1]["val_loss"])
    best = best_outcome(summary.outcomes, "loss")
    assert best is not None
    assert best.value == min(outcome.value or 0.0 for outcome in finished)


def test_confirming_trains_both_again_with_fresh_seeds(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path, optimizer={"lr": 1e-5})  # defaults that anything beats
    config = TuneConfig(trials=2, sampler="random", confirm=2)
    events = list(tuning(recipe, {"lr": "uniform:0.01..0.05"}, config, study="sure"))
    last = events[-1]
    assert isinstance(last, StudyDone)
    found = last.summary.confirmation
    assert found is not None
    assert found.best == last.summary.best != 0
    assert found.seeds == (1, 2)
    for number, values in ((0, found.defaults), (found.best, found.tuned)):
        for seed, value in zip(found.seeds, values, strict=True):
            run = tmp_path / "sure" / f"confirm-{number:03d}-seed-{seed}"
            assert read_recipe(run / "recipe.yaml").seed == seed
            assert value == max(float(row["val_accuracy"]) for row in read_table(run / "results.csv"))
    assert "with 2 fresh seeds" in " ".join(last.summary.sentences)
    again = list(tuning(recipe, {"lr": "uniform:0.01..0.05"}, config, study="sure"))
    assert not [event for event in again if isinstance(event, TrialStarted | TrialDone)]  # all runs are kept
    assert isinstance(again[-1], StudyDone)
    assert again[-1].summary.confirmation == found


def test_nothing_is_confirmed_where_the_defaults_are_best(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path, optimizer={"lr": 0.02}, epochs=1)
    events = list(tuning(recipe, {"lr": "1e-6,1e-7"}, TuneConfig(trials=3, sampler="grid", confirm=2), study="no"))
    assert any(isinstance(event, Remark) and "nothing to confirm" in event.text for event in events)
    assert isinstance(events[-1], StudyDone)
    assert "none beat the defaults" in " ".join(events[-1].summary.sentences)


def outcomes(*values: float | None) -> list[Outcome]:
    return [Outcome(number=0, folder="", values={}, status="finished", value=value) for value in values]


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    tuned, defaults = (0.91, 0.93, 0.90, 0.94, 0.92), (0.90, 0.90, 0.91, 0.91, 0.89)
    found = confirmation(3, range(5), outcomes(*defaults), outcomes(*tuned))
    oracle = stats.ttest_rel(tuned, defaults)
    interval = oracle.confidence_interval(0.95)
    assert found.difference == pytest.approx(0.018)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_confirmation_without_enough_pairs_claims_no_interval() -> None:
    one = confirmation(3, (1, 2), outcomes(0.9, None), outcomes(0.91, 0.92))
    assert one.difference == pytest.approx(0.01)
    assert one.low is one.high is None
    none = confirmation(3, (1,), outcomes(None), outcomes(0.91))
    assert none.difference is None
    summary = Summary(
        name="a", folder="", metric="accuracy", config=TuneConfig(), space={}, best=3, confirmation=none,
        outcomes=(*outcomes(0.5), Outcome(number=3, folder="", values={"lr": "1"}, status="finished", value=0.9)),
    )  # fmt: skip
    assert "no pair of both finished" in in_words(summary)[-1]


def test_the_search_closes_in_and_finds_the_setting_that_matters(tiny: Path, tmp_path: Path) -> None:
    """The value of a trial is made up here: it hangs on the rate alone, and is best at 0.01."""
    space = {"lr": "log:1e-6..1e2", "l2": "uniform:0..0.1"}
    config = TuneConfig(trials=25, pruner="none")

    def distance(values: dict[str, str]) -> float:
        return abs(math.log10(float(values.get("lr", 100))) + 2)

    recipe = asked(tiny, tmp_path)
    study = open_study(recipe, space, config, name="made-up", storage=None, data=None, stop=StopRequest())
    try:
        assert study.search.importance() is None
        while (claim := study.search.claim()) is not None:
            value = 1 - distance(claim.values) / 10
            ended = Outcome(number=claim.number, folder="", values=claim.values, status="finished", value=value)
            study.search.finish(claim, ended)
        importance, found = study.search.importance(), study.search.outcomes()
    finally:
        study.search.close()
    assert importance is not None
    assert importance["lr"] > importance["l2"]
    assert sum(importance.values()) == pytest.approx(1)
    assert mean(distance(one.values) for one in found[-8:]) < mean(distance(one.values) for one in found[1:11]) * 0.75


def test_two_that_share_a_study_claim_each_trial_once(tiny: Path, tmp_path: Path) -> None:
    config = TuneConfig(trials=5, sampler="random")
    searches = [
        open_study(
            asked(tiny, tmp_path), SPACE, config, name="both", storage=tmp_path / "a.db", data=None, stop=StopRequest()
        ).search
        for _ in range(2)
    ]
    try:
        claims = [searches[turn % 2].claim() for turn in range(7)]
        numbers_and_values = [(claim.number, tuple(claim.values.items())) for claim in claims if claim is not None]
        assert [number for number, _ in numbers_and_values] == [0, 1, 2, 3, 4]
        assert len({values for _, values in numbers_and_values}) == 5
        assert searches[0].num_running() == 5
        left = claims[3]
        assert left is not None
        left.lock.close()  # as if its process had been killed
        again = searches[0].claim()
        assert again is not None
        assert (again.number, again.values) == (left.number, left.values)
        assert searches[1].claim() is None
        for claim in [*claims, again]:
            if claim is not None:
                claim.lock.close()
    finally:
        for search in searches:
            search.close()


def test_what_ends_its_process_again_and_again_has_failed(tiny: Path, tmp_path: Path) -> None:
    recipe = asked(tiny, tmp_path)
    for tries in range(3):  # a process that is killed lets go of its locks
        study = open_study(
            recipe, SPACE, TuneConfig(trials=1), name="deadly", storage=None, data=None, stop=StopRequest()
        )
        claim = study.search.claim()
        assert claim is not None, tries
        assert claim.number == 0
        claim.lock.close()
        study.search.close()
    study = open_study(recipe, SPACE, TuneConfig(trials=1), name="deadly", storage=None, data=None, stop=StopRequest())
    try:
        assert study.search.claim() is None
        (outcome,) = study.search.outcomes()
        assert outcome.status == "failed"
        assert "was killed" in outcome.fault
    finally:
        study.search.close()


def test_without_optuna_the_install_line_is_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ResourceError, match="'optuna', which is not installed") as caught:
        tune(asked(tiny, tmp_path), SPACE)
    assert caught.value.hint == 'pip install "halftone[tune]"'
