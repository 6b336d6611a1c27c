"""The main path on a CUDA device: every precision, resuming, prediction, memory."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.base.errors import Interrupted
from halftone.loop.events import StepTaken
from halftone.run.events import Started
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.verbs import train
from halftone.weights.files import load_sealed
from samples import stripes, wish, write_folder, write_npz

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def on_cuda(source: Path, root: Path, **settings: Any) -> Recipe:
    return wish(source, root, **{"device": "cuda", "optimizer": "adamw", "lr": 0.01, "epochs": 4, **settings})


@pytest.mark.parametrize("mode", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_every_precision_learns(mode: str, feed: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=120, val=30)
    recipe = on_cuda(root, tmp_path, precision=mode, epochs=12, data={"feed": feed}, augment={"policy": "strong"})
    run = train(recipe)
    assert run.metrics.accuracy is not None and run.metrics.accuracy > 0.8
    assert evaluate_run(run.path, device="cuda").metrics.accuracy == run.metrics.accuracy


def test_fp16_recovers_from_a_scale_that_overflows(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    run = train(on_cuda(path, tmp_path, precision={"mode": "fp16", "scale": 2.0**24}))
    skipped = [value for value in run.history.steps["skipped"] if value]
    assert len(skipped) < 20
    assert run.metrics.accuracy is not None


@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16"])
def test_stopped_and_resumed_equals_never_stopped(mode: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    recipe = on_cuda(path, tmp_path, precision=mode, deterministic=True, augment={"policy": "none"})
    straight = train(recipe).path
    stop, folder = StopRequest(), None
    with pytest.raises(Interrupted):
        for event in training(recipe, stop=stop):
            if isinstance(event, Started):
                folder = event.folder.path
            if isinstance(event, StepTaken) and event.tried == 4:
                stop.signal = signal.SIGTERM
    assert folder is not None
    list(resuming(folder))
    torch.use_deterministic_algorithms(False)
    one, other = (load_sealed(place / "last.safetensors").tensors for place in (straight, folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_of_the_gpu_predicts_on_the_cpu(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    run = train(on_cuda(path, tmp_path, precision="fp32", epochs=8))
    images, _ = stripes(12, seed=5)
    labels = [[p.label for p in Classifier.load(run.path, device=device).predict(list(images))]
              for device in ("cuda", "cpu")]  # fmt: skip
    assert labels[0] == labels[1]


def test_peak_memory_is_that_of_the_device(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    run = train(on_cuda(path, tmp_path, max_steps=2))
    peak = run.history.epochs["peak_memory_mb"][-1]
    assert peak is not None
    assert 0 < peak * 2**20 <= torch.cuda.get_device_properties(0).total_memory
