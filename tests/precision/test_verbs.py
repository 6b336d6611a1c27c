"""The verbs, with plain loops in torch as oracles."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_networks import batches, everything, network, sgd, train_step
from torch import nn

import halftone
from halftone.base.errors import ModelFileError
from halftone.precision.config import PrecisionConfig
from halftone.precision.verbs import Precision


def test_it_is_public() -> None:
    assert halftone.Precision is Precision


@pytest.mark.parametrize("mode", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_equals_a_hand_written_loop_to_the_bit(mode: str, clip: float | None) -> None:
    ours = network()
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = sgd(ours), sgd(theirs)
    precision = Precision(mode, ours, our_optimizer, clip_norm=clip)
    torch.manual_seed(5)
    for images, labels in batches(20):
        assert train_step(precision, ours, images, labels)
    torch.manual_seed(5)
    for images, labels in batches(20):
        with torch.autocast("cpu", torch.bfloat16) if mode == "bf16" else nullcontext():
            loss = F.cross_entropy(theirs(images), labels)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        their_optimizer.step()
        their_optimizer.zero_grad()
    assert everything(ours, our_optimizer) == everything(theirs, their_optimizer)
    assert precision.scale is None
    assert precision.state_dict() == {}


def test_fp16_equals_a_hand_written_loop_with_grad_scaler_to_the_bit() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(6, 3)
    theirs = copy.deepcopy(ours)
    our_optimizer, their_optimizer = sgd(ours), sgd(theirs)
    precision = Precision("fp16", ours, our_optimizer, clip_norm=0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    applied = []
    for images, labels in batches(6):
        pixels = images.flatten(1)[:, :6] * 2
        applied.append(train_step(precision, ours, pixels, labels))
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(theirs(pixels), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(their_optimizer)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
        scaler.step(their_optimizer)
        scaler.update()
        their_optimizer.zero_grad()
        assert precision.scale is not None
        assert float(precision.scale) == scaler.get_scale()
    assert set(applied) == {True, False}  # a scale of 65536 is too much for some batch
    assert everything(ours, our_optimizer) == everything(theirs, their_optimizer)


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
def test_parts_add_up_to_the_whole(mode: str) -> None:
    torch.manual_seed(0)
    whole = nn.Linear(3, 2).double()
    parts = copy.deepcopy(whole)
    inputs = torch.randn(6, 3, dtype=torch.float64)
    for model, pieces in ((whole, [inputs]), (parts, inputs.split([3, 2, 1]))):
        precision = Precision(mode, model, sgd(model))
        for piece in pieces:
            precision.backward(model(piece).square().mean() * (len(piece) / 6))
        assert precision.step().applied
    torch.testing.assert_close(whole.weight, parts.weight, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
@pytest.mark.parametrize("clip", [1e-3, 0.1, 1e6])
def test_clipping_is_that_of_torch(mode: str, clip: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    other = copy.deepcopy(model)
    inputs = torch.randn(6, 4)
    precision = Precision(mode, model, torch.optim.SGD(model.parameters(), lr=1.0), clip_norm=clip)
    precision.backward(model(inputs).square().mean())
    outcome = precision.step()
    other(inputs).square().mean().backward()
    norm = nn.utils.clip_grad_norm_(other.parameters(), clip)
    assert outcome.grad_norm is not None
    assert float(outcome.grad_norm) == float(norm)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert theirs.grad is not None
        assert torch.equal(mine, theirs - theirs.grad)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_fused_optimizers_agree(make: Callable[..., torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(3, 2)
    fused = copy.deepcopy(plain)
    inputs = torch.randn(5, 4, 3)
    for model, options in ((plain, {}), (fused, {"fused": True})):
        precision = Precision("fp16", model, make(model.parameters(), lr=0.01, **options))
        for number, batch in enumerate(inputs):
            precision.backward(model(batch).square().mean() * (math.inf if number == 2 else 1))
            assert precision.step().applied == (number != 2)
    torch.testing.assert_close(plain.weight, fused.weight)


@pytest.mark.parametrize("measure", [True, False])
def test_the_norm_is_reported_where_it_was_asked_for(measure: bool) -> None:
    model = nn.Linear(4, 2)
    precision = Precision("fp32", model, sgd(model), measure_norm=measure)
    precision.backward(model(torch.ones(3, 4)).sum())
    expected = nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
    norm = precision.step().grad_norm
    assert (norm is not None) == measure
    assert norm is None or torch.equal(norm, expected)


def test_the_scale_grows() -> None:
    model = nn.Linear(2, 1)
    precision = Precision(PrecisionConfig(mode="fp16", scale=8, scale_interval=2), model, sgd(model))
    scales = []
    for _ in range(4):
        precision.backward(model(torch.ones(1, 2)).sum())
        assert precision.step().applied
        scales.append(float(precision.scale))
    assert scales == [8, 16, 16, 32]


def test_state_makes_the_round_trip() -> None:
    config = PrecisionConfig(mode="fp16", scale_interval=3)
    model = nn.Linear(2, 1)
    first, second = Precision(config, model, sgd(model)), Precision(config, model, sgd(model))
    for _ in range(5):
        first.backward(model(torch.ones(1, 2)).sum())
        first.step()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() == {"scaling": {"scale": 131072.0, "tracker": 2}}


def test_a_state_of_another_mode() -> None:
    model = nn.Linear(2, 1)
    fp16, bf16 = Precision("fp16", model, sgd(model)), Precision("bf16", model, sgd(model))
    bf16.load_state_dict(fp16.state_dict())
    with pytest.raises(ModelFileError, match="no loss scale"):
        fp16.load_state_dict(bf16.state_dict())


def test_parameters_without_a_gradient_are_left_alone() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    before = copy.deepcopy(model["unused"].state_dict())
    precision = Precision("fp16", model, sgd(model), clip_norm=1.0)
    precision.backward(model["used"](torch.ones(1, 2)).sum())
    assert precision.step().applied
    assert all(torch.equal(before[name], tensor) for name, tensor in model["unused"].state_dict().items())


def test_parameters_that_join_later_are_unscaled_and_checked() -> None:
    """Layers that are thawed or added during training must not get gradients with the loss scale on them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    precision = Precision("fp16", model, optimizer)
    model[0].requires_grad_(True)
    extra = nn.Linear(2, 1, bias=False)
    optimizer.add_param_group({"params": list(extra.parameters())})
    thawed, added = model[0].weight.clone(), extra.weight.clone()
    loss = extra(model(torch.ones(1, 2))).sum()
    expected = torch.autograd.grad(loss, [model[0].weight, extra.weight], retain_graph=True)
    precision.backward(loss)
    assert precision.step().applied
    assert torch.equal(model[0].weight, thawed - expected[0])
    assert torch.equal(extra.weight, added - expected[1])


def test_a_step_without_gradients_is_an_error() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="backward"):
        Precision("fp32", model, sgd(model)).step()


def test_a_loss_per_image_is_an_error_as_in_torch() -> None:
    model = nn.Linear(2, 1)
    for mode in ("fp32", "fp16"):
        with pytest.raises(RuntimeError, match="scalar"):
            Precision(mode, model, sgd(model)).backward(model(torch.ones(3, 2)).squeeze(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mode": "auto"}, "auto"), ({"clip_norm": 0.0}, "clip_norm"), ({"clip_norm": math.nan}, "clip_norm")],
)
def test_unusable_settings_are_refused(change: dict[str, Any], message: str) -> None:
    model = nn.Linear(2, 2)
    settings = {"mode": "fp32", "model": model, "optimizer": sgd(model)} | change
    with pytest.raises(ValueError, match=message):
        Precision(**settings)


def test_fp16_wants_parameters_in_float32() -> None:
    model = nn.Linear(2, 2).half()
    with pytest.raises(ValueError, match="float32"):
        Precision("fp16", model, sgd(model))
