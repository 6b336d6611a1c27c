"""The loss scale: its limits, its memory, and torch's GradScaler as the outside oracle."""

import copy
import random

import pytest
import torch
from torch import nn

from halftone.base.errors import ModelFileError
from halftone.precision.config import PrecisionConfig
from halftone.precision.scaling import LossScale
from halftone.precision.verbs import Precision

CPU = torch.device("cpu")


def scale_of(**settings: float) -> LossScale:
    return LossScale(PrecisionConfig(mode="fp16", **settings), CPU)


def update(scale: LossScale, pattern: str) -> list[float]:
    """Apply a pattern such as `..x.`, x for an overflow; return the scale after each step."""
    seen = []
    for sign in pattern:
        scale.update(applied=sign != "x")
        seen.append(float(scale.scale))
    return seen


class Contestant:
    """A linear layer and its optimizer, fused as the device's own decision needs it."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model = copy.deepcopy(model)
        parameters = self.model.parameters()
        if name == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)
        else:
            self.optimizer = torch.optim.AdamW(parameters, lr=0.01, fused=True)

    def tensors(self) -> list[torch.Tensor]:
        """Parameters and the optimizer's state."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.model.parameters(), *states]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("block", range(10))
def test_equals_grad_scaler_on_random_patterns_of_infinities(block: int, name: str) -> None:
    """A thousand patterns in all, of ten steps of which a quarter has an infinity or NaN somewhere.

    Parameters, states and scales agree, whether the host decides or the device. The floor and the cap, which torch's
    scaler lacks, are never reached.
    """
    for pattern in range(50 * block, 50 * block + 50):
        follow_grad_scaler(pattern, name)


def follow_grad_scaler(pattern: int, name: str) -> None:
    chance = random.Random(pattern)
    torch.manual_seed(pattern)
    model = nn.Linear(5, 3)
    theirs, *ours = (Contestant(model, name) for _ in range(3))
    theirs.optimizer._step_supports_amp_scaling = False  # the scaler skips by itself: see the test of momentum's start
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=3)
    config = PrecisionConfig(mode="fp16", scale_interval=3)
    precisions = [
        Precision(config, mine.model, mine.optimizer, waits=waits)
        for mine, waits in zip(ours, (True, False), strict=True)
    ]
    for _ in range(10):
        inputs, targets = torch.randn(4, 5), torch.randn(4, 3)
        place = chance.randrange(3) if chance.random() < 0.25 else None
        poison = chance.choice([float("inf"), float("-inf"), float("nan")])
        scaler.scale((theirs.model(inputs) - targets).square().mean()).backward()
        for mine, precision in zip(ours, precisions, strict=True):
            precision.backward((mine.model(inputs) - targets).square().mean())
        if place is not None:
            for each in (theirs, *ours):
                each.model.bias.grad[place] = poison
        scaler.step(theirs.optimizer)
        scaler.update()
        theirs.optimizer.zero_grad()
        for precision in precisions:
            assert bool(precision.step().applied) == (place is None)
            assert precision.scale is not None
            assert 2.0**-10 < float(precision.scale) == scaler.get_scale() < 2.0**24
    for mine, precision in zip(ours, precisions, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(mine.tensors(), theirs.tensors(), strict=True))
        assert scaler.state_dict()["_growth_tracker"] == precision.state_dict()["scaling"]["tracker"]


def test_C3_scale_floor() -> None:
    seen = update(scale_of(), "x" * 200)
    assert seen[25] == 2.0**-10
    assert set(seen[25:]) == {2.0**-10}
    assert torch.isfinite(1 / torch.tensor(seen)).all()


def test_C6_scale_cap() -> None:
    seen = update(scale_of(scale_interval=1), "." * 500)
    assert seen[-1] == 2.0**24 == max(seen)


def test_grows_after_a_stretch_of_finite_steps_only() -> None:
    seen = update(scale_of(scale=1.0, scale_interval=3), "..x......")
    assert seen == [1, 1, 0.5, 0.5, 0.5, 1, 1, 1, 2]


def test_a_scale_that_was_handed_out_stays_as_it_was() -> None:
    scale = scale_of()
    noted = scale.scale
    update(scale, "x")
    assert float(noted) == 65536
    assert float(scale.scale) == 32768


def test_state_makes_the_round_trip() -> None:
    first, second = scale_of(scale_interval=4), scale_of(scale_interval=4)
    update(first, "xx...")
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() == {"scale": 16384.0, "tracker": 3}
    assert update(second, ".x....") == update(first, ".x....")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("-inf"), float("nan")])
def test_C5_unusable_scale_in_a_checkpoint_is_refused(scale: float) -> None:
    loss_scale = scale_of()
    with pytest.raises(ModelFileError, match="loss scale"):
        loss_scale.load_state_dict({"scale": scale, "tracker": 0})
    assert float(loss_scale.scale) == 65536


@pytest.mark.parametrize(("saved", "loaded"), [(1e-44, 2.0**-10), (2.0**30, 2.0**24), (3.0, 3.0)])
def test_C5_a_saved_scale_is_brought_within_the_limits(saved: float, loaded: float) -> None:
    scale = scale_of()
    scale.load_state_dict({"scale": saved, "tracker": 0})
    assert float(scale.scale) == loaded


@pytest.mark.parametrize("tracker", [5, 100, 2**31 - 1, -3])
def test_C6_the_scale_grows_on_whatever_count_was_saved(tracker: int) -> None:
    scale = scale_of(scale=1.0, scale_interval=3)
    scale.load_state_dict({"scale": 1.0, "tracker": tracker})
    assert max(update(scale, "...")) == 2
