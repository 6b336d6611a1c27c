"""Layers timed one by one, with times that are given; and that the real timing runs."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.precision import layer_times
from halftone.precision.config import PrecisionConfig
from halftone.precision.layer_times import slower_layers
from halftone.precision.policy import apply_policy
from halftone.precision.trial import Trial

BF16 = PrecisionConfig(mode="bf16")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Conv2d(3, 3, 3, groups=3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Flatten(),
        nn.Linear(48, 4),
    )


def trial(model: nn.Module | None = None) -> Trial:
    return Trial(model or network(), torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]), F.cross_entropy)


class Clock:
    """Times of layers by their place, in bf16 and in fp32."""

    def __init__(self, model: nn.Module, times: dict[str, tuple[float, float]]) -> None:
        self.names = {id(layer): name for name, layer in model.named_modules()}
        self.times, self.asked = times, []  # type: tuple[dict[str, tuple[float, float]], list[str]]

    def __call__(self, layer: nn.Module, example: Tensor, dtype: torch.dtype | None) -> float:
        name = self.names[id(layer)]
        assert dtype in (None, torch.bfloat16)
        self.asked.append(name)
        return self.times.get(name, (1.0, 1.0))[dtype is None]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(
        times: dict[str, tuple[float, float]], tried: Trial, until: float = math.inf
    ) -> tuple[list[str], list[str]]:
        clock = Clock(tried.model, times)
        monkeypatch.setattr(layer_times, "_seconds", clock)
        return slower_layers(tried, BF16, until=until), clock.asked

    return run


def test_layers_that_alone_are_faster_in_fp32_are_proposed(timed: Any) -> None:
    found, asked = timed({"2": (2.0, 1.0), "6": (1.0, 2.0)}, trial())
    assert found == ["2"]
    assert set(asked) == {"0", "2", "4", "6"}  # convolutions and linear layers; 1 is like 0


@pytest.mark.parametrize(("lowered", "proposed"), [(1.09, False), (1.11, True)])
def test_a_layer_must_be_a_tenth_faster(timed: Any, lowered: float, proposed: bool) -> None:
    assert (timed({"6": (lowered, 1.0)}, trial())[0] == ["6"]) == proposed


def test_layers_of_one_shape_are_timed_once(timed: Any) -> None:
    model = nn.Sequential(
        *[nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(4)], nn.Flatten(), nn.Linear(192, 4)
    )
    # the first comes in fp32, the others in bf16: that is no other shape
    found, asked = timed({"0": (2.0, 1.0), "1": (2.0, 1.0)}, trial(model))
    assert found == ["0", "1", "2", "3"]
    assert set(asked) == {"0", "5"}
    assert asked.count("0") == 8  # four times in either format, the first of which prepares


def test_the_same_layer_on_other_inputs_is_timed_again(timed: Any) -> None:
    found, asked = timed({"4": (3.0, 1.0)}, trial())
    assert {"0", "4"} <= set(asked)
    assert found == ["4"]  # 0 and 1, which see larger pictures, are not


def test_what_saves_next_to_nothing_of_the_whole_is_left(timed: Any) -> None:
    assert timed({"0": (100.0, 100.0), "6": (0.3, 0.1)}, trial())[0] == []
    assert timed({"0": (100.0, 100.0), "6": (1.0, 0.1)}, trial())[0] == ["6"]


def test_layers_with_a_format_of_their_own_are_left_out() -> None:
    tried = trial()
    config = PrecisionConfig(mode="bf16", layers={"2": "fp32"})
    apply_policy(tried.model, config.layers)
    clock = Clock(tried.model, {"2": (5.0, 1.0), "6": (5.0, 1.0)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_times, "_seconds", clock)
        assert slower_layers(tried, config, until=math.inf) == ["6"]
    assert "2" not in clock.asked


def test_what_is_not_reached_in_time_is_not_proposed(timed: Any) -> None:
    assert timed(dict.fromkeys("01246", (5.0, 1.0)), trial(), until=-math.inf) == ([], [])


def test_layers_that_do_not_run_are_not_proposed(timed: Any) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(192, 4), nn.Linear(7, 7)

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images.flatten(1))

    found, asked = timed({"used": (5.0, 1.0), "unused": (5.0, 1.0)}, trial(Partly()))
    assert found == ["used"]
    assert set(asked) == {"used"}


@pytest.mark.parametrize("layers", [{}, {"2": "fp32"}, {"0": "fp32"}])
def test_real_layers_are_timed_forward_and_backward_without_a_trace(layers: Any) -> None:
    tried = trial()
    before = [parameter.detach().clone() for parameter in tried.model.parameters()]
    found = slower_layers(tried, PrecisionConfig(mode="bf16", layers=layers), until=math.inf)
    assert set(found) <= {"0", "1", "2", "4", "6"} - set(layers)
    assert all(map(torch.equal, tried.model.parameters(), before))
