"""Rates that a plan measures: nothing is disturbed, the rule yields where it is far off, failures are said."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from halftone.base.records import dump_yaml
from halftone.loop.range_test import RangePoint
from halftone.run import rates as run_rates
from halftone.run.measuring import measuring
from halftone.run.plan import precision
from halftone.run.plan import rates as decisions
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import MeasuredRates, Plan
from halftone.run.prepare import prepare
from halftone.run.rates import read_points, refined, with_rates
from halftone.run.recipe import Recipe
from halftone.run.start import with_start
from samples import stripes
from undisturbed import everything

MEASURED = MeasuredRates(critical=0.02, steepest=0.01, edge=0.2, suggestion=0.05, highest=1.0, num_steps=60)


@pytest.fixture(autouse=True)
def _fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No precision is measured here."""
    monkeypatch.setattr(precision, "candidates", lambda facts: ("fp32",))


@pytest.fixture
def _short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run of few steps be worth measuring for."""
    monkeypatch.setattr(decisions, "FEWEST_STEPS", 20)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(216, 3))
    return nn.Sequential(*layers)


def planned(model: nn.Module | None = None, **settings: Any) -> Prepared:
    values: dict[str, Any] = {"batch_size": 8, "epochs": 4, "threads": 1, "device": "cpu", "optimizer": "sgd"}
    values |= {"precision": "fp32", "keep_memory": False}
    pictures = stripes(96, size=8), stripes(9, size=8, seed=3)
    model = network() if model is None else model
    return with_start(make_plan(Recipe(**{**values, **settings}), data=pictures, model=model))


def reason(plan: Plan, setting: str) -> str:
    return next((choice.reason for choice in plan.choices if choice.setting == setting), "")


@pytest.mark.usefixtures("_short_enough")
@pytest.mark.parametrize("is_training", [True, False])
def test_the_network_and_the_process_stay_bit_for_bit(is_training: bool) -> None:
    model = network().train(is_training)
    next(model.parameters()).requires_grad_(False)
    prepared = planned(model)
    before = everything(model)
    after = with_rates(prepared)
    assert after.plan.rates is not None
    assert everything(model) == before
    assert after.built.module is model


def test_the_process_is_put_back_where_measuring_ends_in_an_error() -> None:
    prepared = planned(deterministic=True)
    before = everything(prepared.built.module)
    with pytest.raises(ZeroDivisionError), measuring(prepared, num_batches=2):
        assert torch.are_deterministic_algorithms_enabled()
        raise ZeroDivisionError
    assert everything(prepared.built.module) == before


@pytest.mark.usefixtures("_short_enough")
def test_auto_is_refined_and_said() -> None:
    plan = with_rates(planned()).plan
    found = plan.rates
    assert found is not None
    assert found.num_steps > 10
    assert found.critical is not None
    assert "range test of" in reason(plan, "optimizer.lr")
    assert "critical rate, measured" in reason(plan, "warmup.start")
    assert plan.settled.warmup.start != planned().plan.settled.warmup.start
    again = Plan.parse(yaml.safe_load(dump_yaml(plan.to_mapping())))
    assert again == plan


@pytest.mark.usefixtures("_short_enough")
def test_the_same_question_has_the_same_answer() -> None:
    one, other = with_rates(planned()).plan, with_rates(planned()).plan
    assert one == other


@pytest.mark.usefixtures("_short_enough")
def test_what_was_asked_is_measured_no_more_than_needed() -> None:
    asked = planned(lr=0.05, warmup="5%")
    assert with_rates(asked) is asked
    start_only = with_rates(planned(lr=0.05)).plan
    assert start_only.rates is not None
    assert (start_only.rates.num_steps, start_only.settled.optimizer.lr) == (0, 0.05)
    assert start_only.rates.critical is not None
    peak_only = with_rates(planned(warmup="5%")).plan
    assert peak_only.rates is not None
    assert peak_only.rates.critical is None
    assert peak_only.settled.warmup == planned(warmup="5%").plan.settled.warmup
    assert with_rates(asked, check_peak=True).plan.rates is not None
    settled = make_plan(peak_only.settled, data=(stripes(96, size=8), stripes(9, size=8)), model=network())
    assert with_rates(settled) is settled


@pytest.mark.parametrize(
    ("settings", "fetch", "words"),
    [
        ({}, True, "by rule: a run of 48 steps is too short to measure for"),
        ({"optimizer": {"name": "sgd", "probe_seconds": 0}}, True, "by rule: optimizer.probe_seconds is 0"),
        ({"lr": 0.1}, True, "by rule: a run of 48 steps"),
    ],
)
def test_where_nothing_is_measured_the_plan_says_why(settings: dict[str, Any], fetch: bool, words: str) -> None:
    before = planned(**settings)
    plan = with_rates(before, fetch=fetch).plan
    assert plan.rates is None
    assert plan.settled == before.plan.settled
    assert words in reason(plan, "warmup.start" if "lr" in settings else "optimizer.lr")


def test_weights_that_are_not_there_yet_are_not_measured() -> None:
    plan = planned().plan
    weights = plan.settled.weights.replaced(pretrained=True)
    plan = plan.replaced(settled=plan.settled.replaced(weights=weights), total_steps=1000)
    assert "weights are not there" in decisions.obstacle(plan, fetch=False)
    assert decisions.obstacle(plan, fetch=True) == ""


class Touchy(nn.Module):
    """Trains once and never again; what cannot be copied would do as well."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 3)
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += self.training
        if self.seen > 1:
            raise LookupError("I have seen enough")
        return self.head(images.flatten(1))


@pytest.mark.usefixtures("_short_enough")
def test_a_measurement_that_fails_does_not_end_the_run() -> None:
    before = planned(Touchy())
    plan = with_rates(before).plan
    assert plan.settled == before.plan.settled
    assert "by rule: measuring failed: I have seen enough" in reason(plan, "optimizer.lr")


@pytest.mark.usefixtures("_short_enough")
def test_a_slow_network_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_rates, "_seconds_per_step", lambda session: 100.0)
    plan = with_rates(planned()).plan
    assert plan.rates is None
    assert "a step takes too long to measure" in reason(plan, "optimizer.lr")
    monkeypatch.setattr(run_rates, "_seconds_per_step", lambda session: 4.0)
    plan = with_rates(planned()).plan
    assert plan.rates is not None
    assert plan.rates.critical is not None
    assert "a range test would take too long" in reason(plan, "optimizer.lr")


def test_refining_changes_what_follows_from_the_rate() -> None:
    plan = planned(optimizer="muon", epochs=40).plan
    low = MEASURED.replaced(edge=plan.settled.optimizer.lr * 0.01, suggestion=plan.settled.optimizer.lr * 0.003)
    changed = refined(plan, low).settled.optimizer
    assert changed.lr == pytest.approx(2 * low.edge, rel=0.1)
    assert changed.rest_lr == pytest.approx(0.3 * changed.lr, rel=0.01)
    kept = refined(planned(optimizer={"name": "muon", "rest_lr": 0.5}, epochs=40).plan, low).settled.optimizer
    assert kept.rest_lr == 0.5


def test_the_warmup_shrinks_by_what_it_starts_with_and_the_schedule_follows() -> None:
    plan = planned(lr=0.1, epochs=40).plan
    assert plan.warmup_steps == 48
    found = refined(plan, MeasuredRates(critical=0.08))
    assert found.settled.warmup.start == 0.4
    assert found.warmup_steps == 29
    asked = refined(planned(lr=0.1, epochs=40, warmup={"length": "48it", "shape": "adaptive"}).plan, MEASURED)
    assert asked.warmup_steps == 48
    assert asked.settled.warmup.start == 0.1


def test_a_loss_that_explodes_without_having_fallen_has_an_edge_but_no_suggestion() -> None:
    few = [RangePoint(share=0.01 * 2**n, loss=2.0) for n in range(5)]
    found = read_points(few, 0.5, num_steps=40)
    assert (found.suggestion, found.edge, found.num_steps) == (None, pytest.approx(0.08), 5)
    assert read_points(few, 0.5, num_steps=5).edge is None
    flat = [RangePoint(share=0.01 * 1.5**n, loss=2.0) for n in range(15)]
    assert read_points(flat, 0.5, num_steps=40).edge == pytest.approx(0.005 * 1.5**14)
    assert read_points([], 0.5, num_steps=40) == MeasuredRates()


@pytest.mark.usefixtures("_short_enough")
def test_a_peak_that_was_asked_for_is_kept_and_warned_of() -> None:
    pictures = stripes(96, size=8), stripes(9, size=8, seed=3)
    asked = Recipe(lr=300.0, warmup="5%", optimizer="sgd", epochs=4, batch_size=8, precision="fp32", threads=1)
    plan = prepare(asked, data=pictures, model=network(), check_peak=True).plan
    assert plan.settled.optimizer.lr == 300
    assert any("peak rate of 300 lies above what was measured stable" in warning for warning in plan.warnings)
    assert prepare(asked, data=pictures, model=network()).plan.warnings == ()


def test_warnings_are_in_the_plan(tmp_path: Path) -> None:
    pictures = stripes(96, size=8), stripes(9, size=8, seed=3)
    asked = Recipe(warmup={"length": "70%", "shape": "linear"}, lr=0.1, epochs=4, batch_size=8, precision="fp32")
    plan = prepare(asked, data=pictures, model=network()).plan
    (warning,) = plan.warnings
    assert "the warmup takes" in warning


def small(**settings: Any) -> Prepared:
    """A run whose network and images are halftone's own."""
    values: dict[str, Any] = {"data": "digits", "batch_size": 64, "epochs": 20, "threads": 1, "device": "cpu"}
    return with_start(make_plan(Recipe(**{**values, "model": "cnn", "precision": "fp32", **settings})))


def test_the_rates_of_the_same_run_are_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path))
    first = with_rates(small()).plan
    assert first.rates is not None
    assert len(list((tmp_path / "rates").iterdir())) == 1
    measured: list[Prepared] = []

    def measure(prepared: Prepared, *, wants_range: bool, wants_start: bool) -> MeasuredRates:
        measured.append(prepared)
        return MEASURED

    monkeypatch.setattr(run_rates, "_measure", measure)
    assert with_rates(small(name="another")).plan.rates == first.rates
    assert not measured
    others: list[dict[str, Any]] = [{"seed": 1}, {"batch_size": 32}, {"mixup": 0.2}, {"init": "orthogonal"}]
    for number, other in enumerate(others, 1):
        assert with_rates(small(**other)).plan.rates == MEASURED
        assert len(measured) == number


@pytest.mark.usefixtures("_short_enough")
def test_rates_of_a_network_passed_in_python_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path))
    assert with_rates(planned()).plan.rates is not None
    assert not list(tmp_path.iterdir())
