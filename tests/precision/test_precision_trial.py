"""A network on trial: steps that change nothing, gradients and memory that can be compared."""

import copy
import gc
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from halftone.precision.config import PrecisionConfig
from halftone.precision.layer_times import slower_layers
from halftone.precision.policy import own_format
from halftone.precision.trial import Candidate, Trial


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(288, 3),
    )


def trial(model: nn.Module | None = None, loss: Any = F.cross_entropy) -> Trial:
    random = torch.Generator().manual_seed(1)
    images, targets = torch.randn(6, 3, 8, 8, generator=random), torch.randint(3, (6,), generator=random)
    return Trial(model or network(), images, targets, loss)


def parameters(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


CONFIGS = [
    PrecisionConfig(mode="fp32"),
    PrecisionConfig(mode="bf16"),
    PrecisionConfig(mode="bf16", layers={"depthwise": "fp32"}),
    PrecisionConfig(mode="bf16-true"),
    PrecisionConfig(mode="fp16"),
    PrecisionConfig(mode="fp16-true"),
    PrecisionConfig(emulate="fp16"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mode}-{config.emulate}-{len(config.layers)}")
def test_steps_leave_the_weights_to_the_bit(config: PrecisionConfig) -> None:
    tried = trial()
    before = parameters(tried.model)
    assert all(tried.seconds(config) > 0 for _ in range(3))
    tried.gradients(config)
    tried.activation_bytes(config)
    assert all(map(torch.equal, parameters(tried.model), before))
    assert {parameter.dtype for parameter in tried.model.parameters()} == {torch.float32}
    assert all(parameter.grad is None for parameter in tried.model.parameters())


def test_gradients_in_fp32_are_those_of_a_plain_step() -> None:
    tried = trial()
    plain = copy.deepcopy(tried.model)
    random = torch.Generator().manual_seed(1)
    images, targets = torch.randn(6, 3, 8, 8, generator=random), torch.randint(3, (6,), generator=random)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        F.cross_entropy(plain(images), targets).backward()
    found = tried.gradients(PrecisionConfig(mode="fp32"))
    expected = {name: parameter.grad for name, parameter in plain.named_parameters()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("scale", [8.0, 1024.0])
def test_gradients_come_without_the_loss_scale(scale: float) -> None:
    tried = trial()
    reference = tried.gradients(PrecisionConfig(mode="fp32"))
    config = PrecisionConfig(mode="fp16", scaling="static", scale=scale)
    result = tried.agreement(config, reference)
    assert result.cosine > 0.999
    assert result.relative_error < 0.05  # with the scale on them, it would be seven or more


def test_gradients_that_were_left_on_the_network_are_not_added_to() -> None:
    tried = trial()
    expected = tried.gradients(PrecisionConfig(mode="fp32"))
    slower_layers(tried, PrecisionConfig(mode="bf16-true"), until=math.inf)
    found = tried.gradients(PrecisionConfig(mode="fp32"))
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_dropout_falls_equally_for_every_candidate() -> None:
    tried = trial(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3)))
    torch.manual_seed(9)
    one = tried.gradients(PrecisionConfig(mode="fp32"))
    torch.rand(5)
    two = tried.gradients(PrecisionConfig(mode="fp32"))
    half = tried.gradients(PrecisionConfig(mode="bf16"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    unused = one["2.weight"].abs().sum(0) == 0
    assert unused.any()  # places that dropout took from all images
    assert torch.equal(unused, half["2.weight"].abs().sum(0) == 0)


def test_the_global_stream_of_random_numbers_goes_on_as_if_no_gradient_had_been_taken() -> None:
    tried = trial()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    tried.gradients(PrecisionConfig(mode="fp32"))
    assert torch.equal(torch.rand(4), expected)


def test_a_candidate_agrees_with_itself() -> None:
    tried = trial()
    config = PrecisionConfig(mode="bf16")
    result = tried.agreement(config, tried.gradients(config))
    assert (result.cosine, result.relative_error, result.underflow) == (pytest.approx(1), 0, 0)


def test_activations_of_bf16_take_about_half_the_memory() -> None:
    model = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))])
    tried = trial(nn.Sequential(model, nn.Flatten(), nn.Linear(192, 3)))
    full = tried.activation_bytes(PrecisionConfig(mode="fp32"))
    half = tried.activation_bytes(PrecisionConfig(mode="bf16"))
    values = 6 * 3 * 8 * 8
    assert full >= 9 * values * 4  # the inputs of eight layers and of the last one
    assert 0.4 < half / full < 0.65
    kept = tried.activation_bytes(PrecisionConfig(mode="bf16", layers={"*": "fp32"}))
    assert kept == full


def test_activation_bytes_are_the_storages_that_a_plain_graph_keeps() -> None:
    tried = trial(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 50), nn.Sigmoid(), nn.Linear(50, 3)), lambda out, _: out.sum()
    )
    inputs, hidden = 6 * 192 * 4, 6 * 50 * 4
    assert tried.activation_bytes(PrecisionConfig(mode="fp32")) == inputs + hidden


def test_a_pass_that_was_weighed_leaves_nothing_in_memory() -> None:
    tried = trial(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 51), nn.Sigmoid(), nn.Linear(51, 3)), lambda out, _: out.sum()
    )
    tried.activation_bytes(PrecisionConfig(mode="fp32"))
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Tensor and found.shape == (6, 51)]


def test_the_policy_of_the_last_candidate_gives_way_to_the_next() -> None:
    tried = trial()
    tried.seconds(PrecisionConfig(mode="bf16", layers={"depthwise": "fp32"}))
    assert own_format(tried.model[3]) == "fp32"
    tried.seconds(PrecisionConfig(mode="bf16"))
    assert own_format(tried.model[3]) is None


def test_inputs_of_layers_are_seen_as_they_come_in() -> None:
    tried = trial()
    seen = tried.inputs(PrecisionConfig(mode="bf16"), lambda layer: isinstance(layer, _ConvNd | nn.Linear))
    assert {name: (tuple(value.shape), value.dtype) for name, value in seen.items()} == {
        "0": ((6, 3, 8, 8), torch.float32),
        "3": ((6, 8, 8, 8), torch.bfloat16),
        "6": ((6, 288), torch.bfloat16),
    }
    assert not any(value.requires_grad for value in seen.values())
    assert not any(layer._forward_pre_hooks for layer in tried.model.modules())


def test_what_cannot_run_says_why_and_leaves_a_network_that_can() -> None:
    tried = trial()
    assert tried.runs(PrecisionConfig(mode="bf16")) == ""
    reason = tried.runs(PrecisionConfig(mode="bf16", layers={"attention": "fp32"}))
    assert "no layer of the network matches" in reason
    assert "fp8 units" in tried.runs(PrecisionConfig(mode="fp8"))
    assert tried.runs(PrecisionConfig(mode="fp32")) == ""

    class Picky(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            if values.dtype != torch.float32:
                raise NotImplementedError("'picky'\n not implemented for 'Half'")
            return values

    picky = trial(nn.Sequential(nn.Flatten(), nn.Linear(192, 3), Picky()))
    assert picky.runs(PrecisionConfig(mode="bf16")) == "'picky' not implemented for 'Half'"
    assert picky.runs(PrecisionConfig(mode="bf16", layers={"1": "fp32"})) == ""


@pytest.mark.parametrize(
    ("mode", "dtype"), [("fp32", torch.float32), ("bf16-true", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_type_that_is_lowered_to(mode: Any, dtype: torch.dtype) -> None:
    assert trial().lowered(PrecisionConfig(mode=mode)) == dtype


def test_candidates_read_well() -> None:
    assert str(Candidate("bf16")) == "bf16"
    assert str(Candidate("bf16", {"norm": "fp32", "head": "fp16"})) == "bf16 with norm in fp32, head in fp16"
    many = {f"layer{number}": "fp32" for number in range(5)}
    assert str(Candidate("fp16", many)) == "fp16 with layer0 in fp32, layer1 in fp32 and 3 more"  # type: ignore[arg-type]
    config = Candidate("bf16-true", {"norm": "fp32"}).config()
    assert (config.mode, config.layers, config.master) == ("bf16-true", {"norm": "fp32"}, True)
