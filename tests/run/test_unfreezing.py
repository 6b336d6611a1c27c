"""Layers that stand still and thaw, rates of their own, and a warmup that watches: through whole runs and resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.base.errors import RecipeError
from halftone.loop.events import LayersThawed, WarmupDecided
from halftone.run.prepare import prepare
from halftone.run.session import build_session
from halftone.run.training import training
from halftone.verbs import train
from halftone.weights.files import load_sealed
from samples import numbers, stopped_and_resumed, wish, write_npz

BASE: dict[str, Any] = {"model": "cifar_resnet8", "optimizer": "sgd", "lr": 0.05, "warmup": "none", "decay": "constant"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz", size=8)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_sealed(folder / "last.safetensors").tensors


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The stages of which anything has changed, statistics included."""
    return {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}


def start_of(recipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in prepare(recipe).built.module.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16-true"])
def test_stages_thaw_one_after_another_and_stand_still_to_the_bit_until_then(
    tiny: Path, tmp_path: Path, precision: str
) -> None:
    settings = {**BASE, "unfreeze": "1ep", "precision": precision}
    start = start_of(wish(tiny, tmp_path, **settings))
    free = [{"head"}, {"head", "stage3"}, {"head", "stage3", "stage2"}, {"head", "stage3", "stage2", "stage1"}]
    for epochs, expected in enumerate(free, start=1):
        recipe = wish(tiny, tmp_path, epochs=epochs, run={"name": f"of-{epochs}"}, **settings)
        assert moved(start, tensors(train(recipe).path)) == expected


def test_what_thaws_is_said_and_its_rate_rises_again(tiny: Path, tmp_path: Path) -> None:
    recipe = wish(
        tiny, tmp_path, epochs=4, weights={"unfreeze": "stage3=6it,stem=2ep", "unfreeze_warmup": "3it"}, **BASE
    )
    events = list(training(recipe))
    thawed = [event for event in events if isinstance(event, LayersThawed)]
    assert [(event.tried, event.names) for event in thawed] == [(6, ("stage3",)), (12, ("stem",))]
    assert thawed[0].num_trainable < thawed[1].num_trainable
    plan = prepare(recipe).plan
    assert plan.settled.weights.freeze == ("backbone",)
    assert "parameters train at first, stage3 from step 6 on, stem from step 12 on" in plan.weights
    session = build_session(prepare(recipe))
    rates = {group["lane"]: [session.schedule.share(step, group["lane"]) for step in (5, 6, 7, 8, 9)]
             for group in session.optimizer.param_groups}  # fmt: skip
    assert rates["stage3"] == [0, 0.25, 0.5, 0.75, 1]
    assert rates[""] == [1] * 5


@pytest.mark.parametrize("stop_at", [2, 5, 6, 7, 10])
def test_a_resumed_run_thaws_as_one_that_was_never_stopped(tiny: Path, tmp_path: Path, stop_at: int) -> None:
    settings = {**BASE, "epochs": 2, "unfreeze": "stage3=6it,stage2=8it", "optimizer": "adamw", "lr": 0.01}
    straight = train(wish(tiny, tmp_path, run={"name": "straight"}, **settings)).path
    stopped_and_resumed(wish(tiny, tmp_path, run={"name": "cut"}, **settings), tmp_path / "cut", stop_at)
    assert moved(tensors(straight), tensors(tmp_path / "cut")) == set()
    assert numbers(straight, "steps.csv") == numbers(tmp_path / "cut", "steps.csv")


@pytest.mark.parametrize("stop_at", [1, 3, 5, 8, 11])
def test_an_adaptive_warmup_resumes_exactly(tiny: Path, tmp_path: Path, stop_at: int) -> None:
    """With a rate so high that it has something to decide."""
    settings = {**BASE, "epochs": 4, "lr": 3.0, "warmup": {"length": "8it", "shape": "adaptive"}, "decay": "cosine"}
    straight = train(wish(tiny, tmp_path, run={"name": "straight"}, **settings)).path
    stopped_and_resumed(wish(tiny, tmp_path, run={"name": "cut"}, **settings), tmp_path / "cut", stop_at)
    assert moved(tensors(straight), tensors(tmp_path / "cut")) == set()
    for table in ("steps.csv", "warmup.csv"):
        assert (straight / table).is_file()
    assert numbers(straight, "steps.csv") == numbers(tmp_path / "cut", "steps.csv")
    assert (straight / "warmup.csv").read_text() == (tmp_path / "cut" / "warmup.csv").read_text()


def test_what_an_adaptive_warmup_decides_is_an_event_with_its_reason(tiny: Path, tmp_path: Path) -> None:
    recipe = wish(tiny, tmp_path, **{**BASE, "epochs": 3, "warmup": {"length": "5it", "shape": "adaptive"}})
    said = [event for event in training(recipe) if isinstance(event, WarmupDecided)]
    assert [(event.step, event.action, event.share) for event in said] == [(5, "finished", 1.0)]
    assert "100% of the peak" in said[0].reason


def test_rates_by_layer(tiny: Path, tmp_path: Path) -> None:
    optimizer = {"layer_decay": 0.5, "layer_lr": "stage1.0.conv1=0.1,head.bias=3", "name": "sgd", "lr": 1.0}
    recipe = wish(tiny, tmp_path, optimizer={**optimizer, "head_lr": 2.0})
    session = build_session(prepare(recipe))
    peaks = {id(weight): group["peak"] for group in session.optimizer.param_groups for weight in group["params"]}
    found = {name: peaks[id(weight)] for name, weight in session.model.named_parameters()}
    assert found["stem.0.weight"] == 0.5**4
    assert found["stage1.0.conv2.weight"] == 0.5**3
    assert found["stage1.0.conv1.weight"] == pytest.approx(0.1 * 0.5**3)
    assert found["stage3.0.norm1.bias"] == 0.5
    assert found["head.weight"] == 2
    assert found["head.bias"] == 6
    with pytest.raises(RecipeError, match="'stage9' matches no parameter") as caught:
        build_session(prepare(wish(tiny, tmp_path, model="cifar_resnet8", optimizer={"layer_lr": "stage9=0.1"})))
    assert "stage" in caught.value.hint


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "rmsprop"])
def test_momentum_and_biases_warm_up(tiny: Path, tmp_path: Path, name: str) -> None:
    warmup = {"length": "4it", "momentum": 0.5, "bias": 2.0, "start": 0.0}
    recipe = wish(tiny, tmp_path, model="cifar_resnet8", optimizer={"name": name, "lr": 0.1}, warmup=warmup)
    session = build_session(prepare(recipe))
    seen, biases = [], []
    for step in (0, 2, 4):
        session.set_rates(step)
        group = session.optimizer.param_groups[0]
        seen.append(group["momentum"] if "momentum" in group else group["betas"][0])
        biases += [
            group["lr"] / group["peak"] for group in session.optimizer.param_groups if group["lane"] == "biases"
        ][:1]
    assert seen == pytest.approx([0.5, 0.7, 0.9])
    assert biases == pytest.approx([2.0, 1.5, 1.0])
    named = dict(session.model.named_parameters())
    lanes = {id(weight): group["lane"] for group in session.optimizer.param_groups for weight in group["params"]}
    assert {name for name, weight in named.items() if lanes[id(weight)] == "biases"} == {
        name for name in named if name.endswith(".bias")
    }


def test_a_one_cycle_brings_its_warmup_and_momentum(tiny: Path, tmp_path: Path) -> None:
    settled = prepare(wish(tiny, tmp_path, decay="one-cycle", warmup="auto", optimizer="sgd")).plan.settled
    assert (str(settled.warmup.length), settled.warmup.shape, settled.warmup.start) == ("30%", "cosine", 0.04)
    assert (settled.warmup.momentum, settled.optimizer.momentum, settled.decay.momentum) == (0.95, 0.85, 0.95)
    again = prepare(settled).plan.settled
    assert again == settled
    asked = wish(tiny, tmp_path, decay="one-cycle", warmup="5%", optimizer={"name": "sgd", "momentum": 0.8})
    assert prepare(asked).plan.settled.optimizer.momentum == 0.8
    assert prepare(asked).plan.settled.warmup.shape == "cosine"


def test_the_rate_follows_the_batch_where_it_is_told_to(tiny: Path, tmp_path: Path) -> None:
    def rate(**optimizer: Any) -> Any:
        recipe = wish(tiny, tmp_path, optimizer={"name": "sgd", **optimizer}, batch_size=16)
        plan = prepare(recipe).plan
        assert prepare(plan.settled).plan.settled.optimizer.lr == plan.settled.optimizer.lr  # a resumed run, too
        return plan.settled.optimizer.lr

    assert rate(lr=0.1) == 0.1
    assert rate(lr=0.1, lr_scaling="linear") == pytest.approx(0.1 * 16 / 256)
    assert rate(lr=0.1, lr_scaling="sqrt", lr_batch=64) == pytest.approx(0.05)


def test_the_update_ratio_is_what_it_says(tiny: Path, tmp_path: Path) -> None:
    recipe = wish(tiny, tmp_path, **{**BASE, "epochs": 2}, run={"update_ratio_every": 3})
    rows = numbers(train(recipe).path, "steps.csv")
    present = [index for index, row in enumerate(rows) if row["update_ratio"]]
    assert present == [0, 3, 6, 9]
    assert all(0 < float(rows[index]["update_ratio"]) < 1 for index in present)
