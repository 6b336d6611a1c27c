"""Whether a network is compiled where that was left at auto: measured, decided, said, kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError, ResourceError
from halftone.data.feed import Batch
from halftone.loop.session import Session
from halftone.loop.step import update
from halftone.run import compiling as run_compiling
from halftone.run import session as run_session
from halftone.run.compiling import with_compile
from halftone.run.folder import RunFolder
from halftone.run.plan.compiling import StepTimes, too_short, worth
from halftone.run.plan.make import make_plan
from halftone.run.plan.record import Plan
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from samples import stopped_and_resumed, stripes, wish, write_npz
from undisturbed import everything

STEPS = 10_000
"""A run of so many steps of 100 ms takes 1,000 seconds."""


def times(compiled: float, *, eager: float = 0.1, wait: float = 30.0) -> StepTimes:
    return StepTimes(eager=eager, compiled=compiled, wait=wait, turns=5)


@pytest.mark.parametrize(
    ("found", "num_steps", "value", "reason"),
    [
        (
            times(0.08),
            STEPS,
            True,
            "80.0 ms against 100.0 ms, medians of 5 in turns; 10,000 steps save 200 s, and compiling takes 30.00 s",
        ),
        (
            times(2.01, eager=1.57),
            STEPS,
            False,
            "a compiled step takes 1.28 times as long: 2.01 s against 1.57 s, medians of 5 in turns",
        ),
        (times(0.0975), STEPS, False, "a compiled step is only 1.03 times as fast: 97.5 ms against 100.0 ms, medians"),
        (times(0.097), STEPS, False, "10,000 steps save only 30.00 s, and compiling takes 30.00 s"),
        (times(0.094), STEPS, True, "10,000 steps save 60.00 s, and compiling takes 30.00 s"),
        (times(0.08, wait=101), STEPS, False, "10,000 steps save only 200 s, and compiling takes 101 s"),
        (times(0.08), 1000, False, "1,000 steps save only 20.00 s, and compiling takes 30.00 s"),
    ],
)
def test_a_network_is_compiled_where_the_run_earns_the_wait(
    found: StepTimes, num_steps: int, value: bool, reason: str
) -> None:
    decision = worth(found, num_steps)
    assert decision.value is value
    assert reason in decision.reason


def test_a_run_of_less_than_five_minutes_is_short() -> None:
    assert too_short(0.1, 3000) == ""
    assert too_short(0.1, 2990) == "a run of about 299 s is too short to wait for a compiler"
    assert too_short(0.02, 100) == "a run of about 2.00 s is too short to wait for a compiler"


Clock = Callable[..., list[str]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """Lets steps take the seconds that are given, and returns which were taken; nothing is compiled."""
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path / "cache"))

    def set_to(*, eager: float, compiled: float, wait: float = 30.0, error: Exception | None = None) -> list[str]:
        taken: list[str] = []

        def seconds(session: Session, batch: Batch) -> float:
            whole = session.forward is not session.model
            update(session, batch, step=0, tried=1)
            taken.append("compiled" if whole else "eager")
            first = whole and taken.count("compiled") == 1
            return (compiled if whole else eager) + (wait if first else 0.0)

        def compiled_(module: nn.Module) -> Callable[[Tensor], Any]:
            def forward(images: Tensor) -> Any:
                if error is not None:
                    raise error
                return module(images)

            return forward

        monkeypatch.setattr(run_compiling, "_seconds", seconds)
        monkeypatch.setattr(run_compiling, "compiled", compiled_)
        monkeypatch.setattr(run_session, "compiled", compiled_)
        return taken

    return set_to


def asked(compiles: object = "auto", **settings: Any) -> Recipe:
    """A run of 102 steps of a network that is halftone's own."""
    model = {"name": "cifar_resnet8", "compile": compiles, **settings.pop("model", {})}
    values = {"epochs": 17, "batch_size": 16, "lr": 0.1, "warmup": "5it", "precision": "fp32", "threads": 1}
    return Recipe(**{**values, "device": "cpu", "model": model, "keep_memory": False, **settings})


def planned(recipe: Recipe, model: nn.Module | None = None) -> Plan:
    return prepare(recipe, data=(stripes(96, size=8), stripes(9, size=8, seed=3)), model=model).plan


def choice(plan: Plan) -> tuple[str, str]:
    return next((one.value, one.reason) for one in plan.choices if one.setting == "model.compile")


def test_a_gain_that_the_run_earns_is_settled_and_said(clock: Clock) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    plan = planned(asked())
    assert plan.settled.model.compile is True
    assert plan.asked.model.compile == "auto"
    value, reason = choice(plan)
    assert value == "True"
    assert reason == (
        "a compiled step is 1.25 times as fast: 8.00 s against 10.00 s, medians of 3 in turns; "
        "102 steps save 204 s, and compiling takes 30.00 s"
    )
    assert taken == ["eager"] * 3 + ["compiled"] * 2 + ["eager", "compiled"] * 3


@pytest.mark.parametrize(
    ("compiled", "reason"),
    [
        (12.8, "a compiled step takes 1.28 times as long: 12.80 s against 10.00 s, medians of 3 in turns"),
        (9.8, "a compiled step is only 1.02 times as fast: 9.80 s against 10.00 s, medians of 3 in turns"),
        (9.5, "102 steps save only 51.00 s, and compiling takes 30.00 s"),
    ],
)
def test_without_such_a_gain_the_network_is_trained_as_it_is(clock: Clock, compiled: float, reason: str) -> None:
    clock(eager=10.0, compiled=compiled)
    plan = planned(asked())
    assert plan.settled.model.compile is False
    assert choice(plan)[1].endswith(reason)


def test_nothing_is_compiled_for_a_short_run(clock: Clock) -> None:
    taken = clock(eager=2.9, compiled=0.1)
    plan = planned(asked())
    assert choice(plan) == ("False", "a run of about 296 s is too short to wait for a compiler")
    assert taken == ["eager"] * 3
    planned(asked(max_steps=1))
    assert taken == ["eager"] * 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ResourceError("model.compile: the network cannot be compiled here: no\nC++"),
            "the network cannot be compiled",
        ),
        (ValueError("of its own"), "of its own"),
        (ValueError(), "ValueError"),
    ],
)
def test_where_compiling_fails_the_plan_has_the_reason(clock: Clock, error: Exception, reason: str) -> None:
    clock(eager=10.0, compiled=1.0, error=error)
    plan = planned(asked())
    assert plan.settled.model.compile is False
    assert choice(plan)[1].startswith(f"measuring failed: {reason}")
    assert "\n" not in choice(plan)[1]


def test_the_same_steps_are_timed_once(clock: Clock) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    first = planned(asked())
    count = len(taken)
    second = planned(asked(seed=5, lr=0.2))
    assert len(taken) == count
    assert second.settled.model == first.settled.model
    assert choice(second)[1] == f"{choice(first)[1]}; measured before, on this machine"
    shorter = planned(asked(max_steps=10))
    assert choice(shorter)[1].endswith(
        "10 steps save only 20.00 s, and compiling takes 30.00 s; measured before, on this machine"
    )
    others: list[dict[str, Any]] = [{"batch_size": 8}, {"accumulate": 2}, {"precision": "bf16"}, {"threads": 2}]
    others += [{"model": {"channels_last": False}}, {"freeze": "backbone"}, {"model": {"name": "cifar_resnet14"}}]
    for number, other in enumerate(others, 2):
        planned(asked(**other))
        assert len(taken) == number * count, other


def test_a_network_of_somebody_else_is_timed_each_time(clock: Clock) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    for number in (1, 2):
        plan = planned(asked(), nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
        assert plan.settled.model.compile is True
        assert len(taken) == number * 11


def test_the_network_and_the_process_stay_bit_for_bit(clock: Clock) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
    model.append(nn.Linear(216, 3))
    next(model.parameters()).requires_grad_(False)
    prepared = make_plan(asked(), data=(stripes(96, size=8), stripes(9, size=8, seed=3)), model=model)
    before = everything(model)
    after = with_compile(prepared)
    assert taken
    assert everything(model) == before
    assert after.built.module is model


@pytest.mark.parametrize("compiles", [True, False])
def test_what_was_asked_stays_and_nothing_is_timed(clock: Clock, compiles: bool) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    plan = planned(asked(compiles))
    assert plan.settled.model.compile is compiles
    assert "model.compile" not in [one.setting for one in plan.choices]
    assert taken == []


def test_where_no_training_follows_the_rule_decides(clock: Clock) -> None:
    taken = clock(eager=10.0, compiled=8.0)
    plan = make_plan(asked(), data=(stripes(96, size=8), stripes(9, size=8, seed=3))).plan
    assert choice(plan) == ("False", "not compiled unless steps are measured to gain by it")
    assert taken == []


def test_a_resumed_run_keeps_what_was_settled(clock: Clock, tmp_path: Path) -> None:
    taken = clock(eager=60.0, compiled=20.0)
    data = write_npz(tmp_path / "tiny.npz", size=8)
    recipe = wish(data, tmp_path, model={"name": "cifar_resnet8", "compile": "auto"}, run={"name": "run"}, lr=0.1)

    def another_day() -> None:
        assert taken
        taken.clear()
        clock(eager=20.0, compiled=60.0)

    stopped_and_resumed(recipe, tmp_path / "run", 5, between=another_day)
    assert taken == []
    assert RunFolder(tmp_path / "run").read_plan().settled.model.compile is True


@pytest.mark.parametrize(
    ("value", "hint"), [("maybe", ""), ("atuo", "did you mean 'auto'?"), (2, ""), ([True], ""), (None, "")]
)
def test_B3_another_value_is_one_line(value: object, hint: str) -> None:
    with pytest.raises(RecipeError, match=r"^model\.compile = .*: it must be yes or no, or 'auto'$") as caught:
        Recipe.parse({"model": {"compile": value}})
    assert caught.value.hint == hint
