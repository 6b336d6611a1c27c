"""A host that runs ahead of a CUDA device: nothing in a step waits, and the step is the one that the host decides."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from halftone.optim.build import build_optimizer, set_rates
from halftone.optim.config import OptimizerConfig
from halftone.precision.config import PrecisionConfig
from halftone.precision.verbs import Precision
from halftone.verbs import train
from halftone.weights.average import Average
from samples import numbers, wish, write_npz

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
BAD = (0, 2, 3)
SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)
"""Exact in float32, in which a GPU reads the rates."""


def follow(name: str, mode: str, *, waits: bool, watched: bool) -> list[Tensor]:
    """Train for some steps; return weights, averages and the optimizer's state."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).cuda()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.5, l2=0.0, rest_lr=0.25), head=())
    precision = Precision(PrecisionConfig(mode=mode), model, optimizer, clip_norm=0.5, waits=waits)
    average = Average(model, 0.9)
    inputs = torch.randn(len(SHARES), 6, 8, device="cuda")
    inputs[list(BAD), 0, 0] = math.inf
    table = torch.tensor(SHARES, dtype=torch.float64, device="cuda")
    step = torch.zeros((), dtype=torch.int64, device="cuda")
    for number, batch in enumerate(inputs.unbind()):
        if watched and number:  # the first step makes room for copies and the optimizer's state
            torch.cuda.set_sync_debug_mode("error")
        try:
            set_rates(optimizer, lambda lane, step=step: SHARES[int(step)] if waits else table.take(step))
            with precision.forward():
                loss = model(batch).square().mean()
            precision.backward(loss)
            applied = precision.step().applied
            average.update(applied)
            step = step + applied
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert int(step) == len(SHARES) - len(BAD)
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*model.state_dict().values(), *average.module.state_dict().values(), *states]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16", "bf16-true", "fp16-true"])
def test_nothing_waits_and_the_step_is_the_same(name: str, mode: str) -> None:
    ahead = follow(name, mode, waits=False, watched=True)
    behind = follow(name, mode, waits=True, watched=False)
    for one, other in zip(ahead, behind, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_the_tables_tell_of_skipped_steps(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    precision = {"mode": "fp16", "scale": 2.0**24}
    rows = numbers(train(wish(path, tmp_path, device="cuda", epochs=4, precision=precision)).path, "steps.csv")
    applied = 0
    for row in rows:
        applied += row["skipped"] == "0"
        assert int(row["step"]) == applied
    assert 0 < applied < len(rows)
