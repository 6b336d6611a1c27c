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
        scale.update(overflowed=sign == "x")
        seen.append(float(scale.scale))
    return seen


@pytest.mark.parametrize("make_optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_grad_scaler_on_random_patterns_of_infinities(seed: int, make_optimizer: str) -> None:
    """100 steps each, a quarter of them with an infinity or NaN somewhere: parameters, states and scales agree."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    ours = nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if make_optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return torch.optim.AdamW(model.parameters(), lr=0.01)

    our_optimizer, their_optimizer = optimizer(ours), optimizer(theirs)
    precision = Precision(PrecisionConfig(mode="fp16", scale_interval=5), ours, our_optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=5)
    num_skipped = 0
    for _ in range(100):
        inputs, targets = torch.randn(4, 5), torch.randn(4, 3)
        precision.backward(((ours(inputs) - targets) ** 2).mean())
        scaler.scale(((theirs(inputs) - targets) ** 2).mean()).backward()
        if chance.random() < 0.25:
            place, poison = chance.randrange(3), chance.choice([float("inf"), float("-inf"), float("nan")])
            for model in (ours, theirs):
                model.bias.grad[place] = poison
        outcome = precision.step()
        scaler.step(their_optimizer)
        scaler.update()
        their_optimizer.zero_grad()
        num_skipped += not outcome.applied
        assert precision.scale is not None
        assert 2.0**-10 < float(precision.scale) == scaler.get_scale() < 2.0**24
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)
    assert 10 < num_skipped < 50
    for mine, other in zip(our_optimizer.state.values(), their_optimizer.state.values(), strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine)
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
