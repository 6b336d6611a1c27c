"""Training with a compiled network: the same numbers, exact when resumed, one clear line where it cannot be."""

import os
import shutil
from pathlib import Path

import pytest
import torch

import halftone as ht
from halftone.base.errors import ResourceError
from halftone.loop.events import StepTaken
from halftone.run.compiling import with_compile
from halftone.run.plan import compiling
from halftone.run.plan.make import make_plan
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.weights.files import load_weights
from undisturbed import everything

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler"),
]


def recipe(folder: Path, name: str, *, precision: str = "bf16", compiles: bool = True) -> ht.Recipe:
    return ht.Recipe(
        data="digits",
        model={"name": "cnn", "compile": compiles},
        precision={"mode": precision, "layers": {"norm": "fp32"}},
        max_steps=12,
        epochs=1,
        batch_size=64,
        threads=1,
        warmup="2it",
        optimizer={"lr": 0.02, "name": "sgd"},
        run={"root": folder, "name": name, "report": False, "tensorboard": False, "fit_images": 0},
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-true"])
def test_it_trains_as_the_network_does(tmp_path: Path, precision: str) -> None:
    torch.compiler.reset()
    losses = {}
    for compiles in (False, True):
        wish = recipe(tmp_path, f"run-{compiles}", precision=precision, compiles=compiles)
        losses[compiles] = [float(event.loss) for event in training(wish) if isinstance(event, StepTaken)]
    assert len(losses[True]) == 12
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    if precision == "fp32":  # later, roundings add up
        assert losses[True][:4] == pytest.approx(losses[False][:4], rel=1e-4)
    plain = load_weights(tmp_path / "run-False/last.safetensors").tensors
    assert set(load_weights(tmp_path / "run-True/last.safetensors").tensors) == set(plain)


def test_it_is_compiled_once_for_all_whole_batches(tmp_path: Path) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    list(training(recipe(tmp_path, "run")))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    torch.compiler.reset()
    list(training(recipe(tmp_path, "whole")))
    stop, seen = StopRequest(), 0
    with pytest.raises(ht.Interrupted):
        for event in training(recipe(tmp_path, "stopped"), stop=stop):
            seen += isinstance(event, StepTaken)
            if seen == 5:
                stop.signal = 15
    torch.compiler.reset()
    list(resuming(tmp_path / "stopped"))
    whole, resumed = (load_weights(tmp_path / name / "last.safetensors").tensors for name in ("whole", "stopped"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_what_cannot_be_compiled_is_one_line(tmp_path: Path) -> None:
    torch.compiler.reset()

    def fails(graph: object, inputs: object) -> None:
        raise ValueError("no such instruction")

    with pytest.MonkeyPatch.context() as patch:
        original = torch.compile
        patch.setattr(torch, "compile", lambda module, dynamic: original(module, backend=fails, dynamic=dynamic))
        with pytest.raises(ResourceError, match=r"^model\.compile: the network cannot .* no such"):
            list(training(recipe(tmp_path, "run")))


def test_auto_compiles_a_copy_and_says_what_its_steps_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast they are is the machine's business; that they were taken, and left no trace, is ours."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(compiling, "SHORTEST", 0.0)
    monkeypatch.setenv("HALFTONE_CACHE", str(tmp_path / "cache"))
    wish = recipe(tmp_path, "run")
    prepared = make_plan(wish.replaced(model=wish.model.replaced(compile="auto")))
    before = everything(prepared.built.module)
    plans = [with_compile(prepared).plan for _ in range(2)]
    assert everything(prepared.built.module) == before
    first, second = (next(one for one in plan.choices if one.setting == "model.compile") for plan in plans)
    assert first.reason.startswith("a compiled step ")
    assert first.value == str(plans[0].settled.model.compile)
    assert second.reason == f"{first.reason}; measured before, on this machine"
    list(training(wish))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # the run takes what was compiled for the copy


def test_auto_without_a_compiler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(compiling, "SHORTEST", 0.0)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    wish = recipe(tmp_path, "run")
    plan = with_compile(make_plan(wish.replaced(model=wish.model.replaced(compile="auto")))).plan
    (found,) = [one for one in plan.choices if one.setting == "model.compile"]
    assert found.value == "False"
    assert found.reason.startswith("measuring failed: the network cannot be compiled here: ")
