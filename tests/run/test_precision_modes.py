"""Whole runs in the precisions beyond plain autocast: they learn, go on exactly, and evaluate to the same numbers."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import Interrupted, RecipeError
from halftone.loop.events import StepTaken
from halftone.precision.policy import own_format
from halftone.run.events import Started
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.model_file import load_model
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.verbs import Run, train
from halftone.weights.average import Average
from halftone.weights.files import load_sealed
from samples import numbers, stripes, wish, write_npz

WAYS: dict[str, dict[str, Any]] = {
    "bf16-true": {"precision": "bf16-true"},
    "bf16-true with averages and one layer in fp32": {
        "precision": {"mode": "bf16-true", "layers": "head=fp32"},
        "average": 0.9,
    },
    "bf16-true without masters": {"precision": {"mode": "bf16-true", "master": False}},
    "fp16-true": {"precision": {"mode": "fp16-true", "scale": 1024}, "force": True, "max_steps": 7},
    "mixed": {"precision": {"mode": "bf16", "layers": "norm=fp32,stem*=fp32,loss=fp32"}, "accumulate": 2},
    "fp16, rehearsed": {"precision": {"mode": "auto", "emulate": "fp16"}},
    "fp8, rehearsed": {
        "precision": {"mode": "auto", "emulate": "fp8-e4m3", "layers": "head=fp32"},
        "optimizer": "adamw",
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS.keys())
def whole(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, dict[str, Any]]:
    """A run that was never stopped, and what it was asked."""
    return train(wish(tiny, tmp_path_factory.mktemp("runs"), **request.param)), request.param


def weights(folder: Path, name: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return load_sealed(folder / name).tensors


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stop_at(events: Any, stop: StopRequest, *, tried: int) -> Path:
    folder: Path | None = None
    stop.signal = None
    with pytest.raises(Interrupted):
        for event in events:
            if isinstance(event, Started):
                folder = event.folder.path
            if isinstance(event, StepTaken) and event.tried == tried:
                stop.signal = signal.SIGTERM
    assert folder is not None
    return folder


def test_stopped_and_resumed_equals_never_stopped(
    tiny: Path, tmp_path: Path, whole: tuple[Run, dict[str, Any]]
) -> None:
    straight, way = whole[0].path, whole[1]
    stop = StopRequest()
    folder = stop_at(training(wish(tiny, tmp_path, **way), stop=stop), stop, tried=4)
    stop_at(resuming(folder, stop=stop), stop, tried=6)
    stop.signal = None
    list(resuming(folder))
    assert same(weights(straight), weights(folder))
    assert same(weights(straight, "best.safetensors"), weights(folder, "best.safetensors"))


def test_the_saved_network_gives_the_numbers_of_the_run(whole: tuple[Run, dict[str, Any]]) -> None:
    run = whole[0]
    assert evaluate_run(run.path).metrics == run.metrics
    last = evaluate_run(run.path, weights="last")
    assert repr(last.metrics.loss) == numbers(run.path, "results.csv")[-1]["val_loss"]
    loaded = load_model(run.path / "best.safetensors")
    asked = run.plan.settled.precision
    assert (loaded.card.precision.layers, loaded.card.precision.emulate) == (asked.layers, asked.emulate)
    wanted = {name for name, value in asked.layers.items() if value == "fp32"}
    if "head" in wanted:
        assert own_format(loaded.module.get_submodule("head")) == "fp32"
    images, _ = stripes(6, seed=4)
    predicted = Classifier.load(run.path).predict(list(images))
    assert all(sum(part.probability for part in one.top) == pytest.approx(1, abs=1e-3) for one in predicted)


@pytest.mark.parametrize(
    ("way", "others"),
    [
        ({"precision": "bf16-true"}, set()),
        ({"precision": {"mode": "bf16-true", "master": False}}, {torch.bfloat16}),
        ({"precision": {"mode": "auto", "emulate": "fp16"}}, set()),
    ],
)
def test_weights_are_saved_as_the_optimizer_holds_them(
    tiny: Path, tmp_path: Path, way: dict[str, Any], others: set[torch.dtype]
) -> None:
    run = train(wish(tiny, tmp_path, max_steps=2, **way))
    found = weights(run.path)
    assert {value.dtype for value in found.values() if value.is_floating_point()} == {torch.float32} | others
    assert found["head.weight"].dtype == (torch.bfloat16 if others else torch.float32)


def test_a_rehearsal_learns(tiny: Path, tmp_path: Path) -> None:
    precision = {"mode": "auto", "emulate": "fp16"}
    run = train(wish(tiny, tmp_path, precision=precision, epochs=5, optimizer="adamw", lr=0.01))
    assert run.metrics.accuracy is not None and run.metrics.accuracy > 0.8


def test_the_loss_scale_of_a_rehearsal_is_written_down(tiny: Path, tmp_path: Path) -> None:
    scaled = train(wish(tiny, tmp_path, precision={"mode": "auto", "emulate": "fp16", "scale": 512}, max_steps=2))
    assert {row["loss_scale"] for row in numbers(scaled.path, "results.csv")} == {"512.0"}


def test_evaluation_may_have_a_mode_of_its_own(tiny: Path, tmp_path: Path) -> None:
    precision = {"mode": "bf16", "layers": "head=fp32"}
    run = train(wish(tiny, tmp_path, precision={**precision, "evaluation": "fp32"}, max_steps=4))
    assert evaluate_run(run.path).metrics == run.metrics
    card = load_model(run.path / "best.safetensors").card
    assert (card.precision.mode, card.precision.layers) == ("fp32", {"head": "fp32"})
    plain = train(wish(tiny, tmp_path, precision=precision, max_steps=4))
    assert same(weights(run.path), weights(plain.path))  # training is the same
    assert run.metrics.loss != plain.metrics.loss


@pytest.mark.parametrize("emulate", ["fp16", "fp8-e4m3"])
def test_what_was_trained_in_a_rehearsal_may_be_evaluated_in_fp32(tiny: Path, tmp_path: Path, emulate: str) -> None:
    run = train(wish(tiny, tmp_path, max_steps=2, precision={"mode": "auto", "emulate": emulate, "evaluation": "fp32"}))
    assert evaluate_run(run.path).metrics == run.metrics


@pytest.mark.parametrize("precision", ["bf16-true", {"mode": "fp32", "layers": "head=bf16"}])
def test_the_same_seed_gives_the_same_run(tiny: Path, tmp_path: Path, precision: Any) -> None:
    runs = [train(wish(tiny, tmp_path, precision=precision, max_steps=4)).path for _ in range(2)]
    assert same(weights(runs[0]), weights(runs[1]))


def test_the_average_follows_weights_that_are_half() -> None:
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        model = nn.Linear(1, 1, bias=False).to(dtype)
        average = Average(model, 0.999)
        for step in range(2000):
            nn.init.constant_(model.weight, 1 + step / 2000)
            average.update(True)
        ends.append(float(average.module.weight.detach()))
    assert ends[1] == pytest.approx(ends[0], rel=2.0**-8)


def test_the_same_weights_compute_in_another_mode(tiny: Path, tmp_path: Path) -> None:
    asked = {"mode": "bf16", "layers": "head=fp32"}
    run = train(wish(tiny, tmp_path, max_steps=4, precision=asked))
    full, half = (evaluate_run(run.path, precision=mode).metrics for mode in ("fp32", "bf16"))
    assert half == run.metrics == evaluate_run(run.path, precision="auto").metrics
    assert full.loss is not None and half.loss is not None
    assert 0 < abs(full.loss - half.loss) < 0.05
    images, _ = stripes(4, seed=4)
    module = load_model(run.path / "best.safetensors").module
    in_fp32, as_trained = (Classifier.load(run.path, precision=mode) for mode in ("float32", "auto"))
    assert own_format(in_fp32.module.get_submodule("head")) is None  # of a network in fp32, all is fp32
    assert own_format(as_trained.module.get_submodule("head")) == own_format(module.get_submodule("head")) == "fp32"
    exact = [one.probability for one in in_fp32.predict(list(images))]
    assert exact != [one.probability for one in as_trained.predict(list(images))]
    assert exact == pytest.approx([one.probability for one in as_trained.predict(list(images))], abs=0.05)


@pytest.mark.parametrize(("mode", "words"), [("fp64", "mode = 'fp64'"), ("tf32", "no tf32 units")])
def test_another_mode_must_be_one(tiny: Path, tmp_path: Path, mode: str, words: str) -> None:
    run = train(wish(tiny, tmp_path, max_steps=1))
    for use in (evaluate_run, Classifier.load):
        with pytest.raises(RecipeError, match=words):
            use(run.path, precision=mode)


def test_a_format_that_the_processor_lacks_is_said(
    tiny: Path, tmp_path: Path, plain_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(wish(tiny, tmp_path, max_steps=1, precision="bf16"))
    (told,) = [choice.reason for choice in run.plan.choices if choice.setting == "precision.mode"]
    assert "has no bf16 instructions; torch emulates them" in told
    rehearsed = train(wish(tiny, tmp_path, max_steps=1, precision={"mode": "auto", "emulate": "bf16"}))
    assert not [choice for choice in rehearsed.plan.choices if choice.setting == "precision.mode"]
    for found in (evaluate_run(run.path), Classifier.load(run.path)):
        (note,) = found.notes
        assert "no bf16 instructions" in note and "--precision fp32" in note
    for quiet in (evaluate_run(run.path, precision="fp32"), evaluate_run(rehearsed.path)):
        assert quiet.notes == ()
    monkeypatch.setattr("halftone.system.device.cpu_capabilities", lambda: {"avx512_bf16": True})
    assert evaluate_run(run.path).notes == ()
