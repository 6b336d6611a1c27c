"""The speed recipe on a CUDA device: it learns, halts layers without waiting, and resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.loop.events import EpochDone, LayersHalted
from halftone.run.inference import evaluate_run
from halftone.run.recipe import Recipe, read_recipe
from halftone.run.training import training
from halftone.weights.files import load_sealed
from samples import stopped_and_resumed, write_npz

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
RECIPE = Path(__file__).parents[2] / "recipes" / "cifar10-94.yaml"


def on_cuda(source: Path, root: Path, **settings: Any) -> Recipe:
    run = {"root": str(root), "report": False, "tensorboard": False, **settings.pop("run", {})}
    data = {"source": str(source), "progressive": {12: "2ep"}}
    short = {"device": "cuda", "epochs": 6, "batch_size": 32, "data": data, "run": run}
    return read_recipe(RECIPE, {**short, "weights": {"freeze_after": {"stem.bias": "1ep"}}, **settings})


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-true", "fp16"])
def test_it_learns_in_every_precision(precision: str, tmp_path: Path) -> None:
    source = write_npz(tmp_path / "set.npz", train=320, test=60, size=16)
    events = list(training(on_cuda(source, tmp_path / "runs", precision=precision)))
    assert [event.tried for event in events if isinstance(event, LayersHalted)] == [10]
    last = [event for event in events if isinstance(event, EpochDone)][-1].evaluation.metrics
    assert last.accuracy is not None and last.accuracy > 0.8
    folder = next((tmp_path / "runs").iterdir())
    assert evaluate_run(folder, weights="last", device="cuda").metrics.accuracy == last.accuracy


def test_a_resumed_run_ends_near_one_that_was_never_stopped(tmp_path: Path) -> None:
    source = write_npz(tmp_path / "set.npz", train=320, test=60, size=16)
    list(training(on_cuda(source, tmp_path, precision="fp32", run={"name": "straight"})))
    stopped_and_resumed(on_cuda(source, tmp_path, precision="fp32", run={"name": "cut"}), tmp_path / "cut", 12)
    ends = [load_sealed(tmp_path / name / "last.safetensors").tensors for name in ("straight", "cut")]
    assert torch.equal(ends[0]["stem.weight"], ends[1]["stem.weight"])
    torch.testing.assert_close(ends[0]["stem.bias"], ends[1]["stem.bias"], rtol=1e-2, atol=1e-3)
