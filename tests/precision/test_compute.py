"""Every way to compute, through the verbs: it learns, keeps its promises on types, and evaluates."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.base.errors import RecipeError, ResourceError
from halftone.precision.compute import Compute, evaluating
from halftone.precision.config import PrecisionConfig, evaluation_config
from halftone.precision.policy import own_format
from halftone.precision.verbs import Precision

WAYS: dict[str, dict[str, Any]] = {
    "fp32": {"mode": "fp32"},
    "tf32": {"mode": "tf32"},
    "bf16": {"mode": "bf16"},
    "fp16": {"mode": "fp16"},
    "bf16-true": {"mode": "bf16-true"},
    "fp16-true": {"mode": "fp16-true"},
    "bf16-true without masters": {"mode": "bf16-true", "master": False},
    "fp16-true without masters": {"mode": "fp16-true", "master": False, "scale": 256},
    "tf32, rehearsed": {"emulate": "tf32"},
    "bf16, rehearsed": {"emulate": "bf16"},
    "fp16, rehearsed": {"emulate": "fp16"},
    "fp8-e4m3, rehearsed": {"emulate": "fp8-e4m3"},
    "fp8-e5m2, rehearsed": {"emulate": "fp8-e5m2"},
    "mixed": {"mode": "bf16", "layers": "norm=fp32,4=fp16"},
    "half weights but one": {"mode": "bf16-true", "layers": "4=fp32"},
    "rehearsed but one": {"emulate": "fp16", "layers": "0=fp32"},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2), nn.Identity()
    )


def problem() -> tuple[Tensor, Tensor]:
    """Pictures [32, 1, 6, 6] that are lighter above or below."""
    random = torch.Generator().manual_seed(1)
    labels = torch.arange(32) % 2
    images = 0.5 * torch.randn(32, 1, 6, 6, generator=random)
    images[:, :, :3] += labels.view(-1, 1, 1, 1).float()
    images[:, :, 3:] += (1 - labels).view(-1, 1, 1, 1).float()
    return images, labels


def learned(settings: dict[str, Any], steps: int = 25) -> tuple[Precision, nn.Module, list[float]]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    precision = Precision(PrecisionConfig.parse(settings), model, optimizer)
    images, labels = problem()
    losses = []
    for _ in range(steps):
        with precision.forward():
            loss = F.cross_entropy(model(images).float(), labels)
        precision.backward(loss)
        if precision.step().applied:
            losses.append(loss.item())
    return precision, model, losses


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS.keys())
def test_every_way_learns(settings: dict[str, Any]) -> None:
    _, model, losses = learned(settings)
    assert len(losses) >= 20  # a first loss scale may be too high for a few steps
    assert losses[-1] < 0.1 < losses[0]
    images, labels = problem()
    config = PrecisionConfig.parse(settings)
    with torch.no_grad(), evaluating(config, "cpu"):
        assert (model.eval()(images).argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("way", "other"),
    [
        ("bf16", "fp32"),
        ("fp16", "bf16"),
        ("tf32, rehearsed", "fp32"),
        ("fp8-e4m3, rehearsed", "bf16"),
        ("fp8-e5m2, rehearsed", "fp8-e4m3, rehearsed"),
        ("rehearsed but one", "fp16, rehearsed"),
        ("mixed", "bf16"),
        ("half weights but one", "bf16-true"),
        ("bf16-true without masters", "bf16-true"),
        ("fp16-true without masters", "fp16-true"),
    ],
)
def test_what_a_setting_asks_for_changes_the_numbers(way: str, other: str) -> None:
    assert learned(WAYS[way], steps=6)[2] != learned(WAYS[other], steps=6)[2]


@pytest.mark.parametrize("mode", ["bf16", "fp16"])
def test_with_masters_half_weights_learn_as_autocast_does_to_the_bit(mode: str) -> None:
    """Where a network is made of products and norms, both round the same numbers at the same places."""
    _, ours, losses = learned({"mode": f"{mode}-true"})
    _, theirs, expected = learned({"mode": mode})
    assert losses == expected
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_without_units_for_tf32_the_mode_is_fp32() -> None:
    assert learned(WAYS["tf32"], steps=4)[2] == learned(WAYS["fp32"], steps=4)[2]


@pytest.mark.parametrize("way", ["mixed", "half weights but one", "rehearsed but one"])
def test_layers_are_marked_and_said_and_a_new_precision_replaces_them(way: str) -> None:
    precision, model, _ = learned(WAYS[way], steps=1)
    marked = {name: own_format(layer) for name, layer in model.named_modules() if own_format(layer)}
    assert precision.layers == marked
    assert len(marked) == (2 if way == "mixed" else 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Precision("bf16", model, optimizer).layers == {}
    assert not any(own_format(layer) for layer in model.modules())


def outputs(precision: Precision, model: nn.Module) -> dict[str, torch.dtype]:
    seen: dict[str, torch.dtype] = {}

    def noted(name: str) -> Any:
        return lambda layer, inputs, output: seen.__setitem__(name, output.dtype)

    handles = [layer.register_forward_hook(noted(name)) for name, layer in model.named_children()]
    with torch.no_grad(), precision.forward():
        model(problem()[0])
    for handle in handles:
        handle.remove()
    return seen


def test_the_formats_of_layers_apply_in_every_mode() -> None:
    for mode in ("bf16", "bf16-true"):
        precision, model, _ = learned({"mode": mode, "layers": "0=fp32,4=fp16"}, steps=1)
        seen = outputs(precision, model)
        assert (seen["0"], seen["4"]) == (torch.float32, torch.float16)
    precision, model, _ = learned({"mode": "bf16-true"}, steps=1)
    assert set(outputs(precision, model).values()) == {torch.bfloat16}


def test_a_kept_layer_within_half_weights_trains_its_own_fp32_weights() -> None:
    _, model, _ = learned({"mode": "bf16-true", "master": False, "layers": "4=fp32"})
    assert model[0].weight.dtype == torch.bfloat16
    assert model[4].weight.dtype == model[1].weight.dtype == torch.float32


def test_the_norm_is_computed_in_fp32_where_it_is_asked_for() -> None:
    model, images = network(), problem()[0]
    plain = copy.deepcopy(model)
    precision = Precision(
        PrecisionConfig(mode="bf16", layers="norm=fp32"), model, torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with precision.forward():
        got = model[1](model[0](images))
    with torch.autocast("cpu", torch.bfloat16):
        given = plain[0](images)
    assert given.dtype == torch.bfloat16
    assert torch.equal(got, plain[1](given.float()))


@pytest.mark.parametrize("mode", ["fp32", "bf16", "bf16-true", "fp16-true"])
def test_forward_and_backward_leave_no_trace_outside_of_their_contexts(mode: Any) -> None:
    model = network()
    compute = Compute(PrecisionConfig(mode=mode), model, torch.device("cpu"))
    images = problem()[0]
    expected = network()(images)
    with compute.forward():
        loss = model(images).float().sum()
    with compute.backward():
        loss.backward()
    model.load_state_dict(network().state_dict())
    assert torch.equal(model(images), expected)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({"mode": "fp32"}, torch.float32),
        ({"mode": "bf16"}, torch.bfloat16),
        ({"mode": "bf16-true"}, torch.bfloat16),
        ({"mode": "fp16-true"}, torch.float16),
        ({"mode": "fp8"}, torch.bfloat16),
        ({"mode": "bf16", "evaluation": "fp32"}, torch.float32),
        ({"mode": "fp32", "evaluation": "fp16-true"}, torch.float16),
        ({"emulate": "fp16"}, torch.float16),
        ({"emulate": "fp8-e4m3"}, torch.bfloat16),
        ({"emulate": "fp16", "evaluation": "fp32"}, torch.float32),
    ],
)
def test_evaluation_computes_in_its_mode(settings: dict[str, Any], dtype: torch.dtype) -> None:
    config = PrecisionConfig.parse(settings)
    with torch.no_grad(), evaluating(evaluation_config(config), "cpu"):
        assert network()(problem()[0]).dtype == dtype


def test_evaluation_rehearses_what_training_rehearsed() -> None:
    images = problem()[0] * 100
    results = {}
    for name in ("fp8-e4m3", "fp8-e5m2", None):
        config = PrecisionConfig(mode="bf16", emulate=name)
        for _ in range(2):  # one context per batch
            with torch.no_grad(), evaluating(config, "cpu"):
                results[name] = network().eval()(images)
    assert not torch.equal(results["fp8-e4m3"], results[None])
    assert not torch.equal(results["fp8-e4m3"], results["fp8-e5m2"])


def test_what_cannot_be_is_refused() -> None:
    model = network()
    with pytest.raises(RecipeError, match="no layer of the network matches"):
        Precision(PrecisionConfig(mode="bf16", layers="attention=fp32"), model, torch.optim.SGD(model.parameters()))
    with pytest.raises(ResourceError, match="no fp8 units"):
        Precision("fp8", model, torch.optim.SGD(model.parameters()))
