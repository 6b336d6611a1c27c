"""A step whose fate the device decides: it equals, bit for bit, the step that the host decides, and reads nothing."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from small_networks import batches, network, sgd
from torch import Tensor, nn

from halftone.loop.passes import even_parts
from halftone.optim.build import build_optimizer, set_rates
from halftone.optim.config import OptimizerConfig
from halftone.optim.penalty import L1Penalty
from halftone.precision.apply import takes_a_flag, waits_by_default
from halftone.precision.config import PrecisionConfig
from halftone.precision.verbs import Precision
from halftone.weights.average import Average
from reading import nothing_is_read

FUSED = ["sgd", "adam", "adamw", "muon"]
BAD = (0, 3, 4, 9)
"""The first step among them, which finds the optimizer without any state."""


class Training:
    """Everything that a step touches."""

    def __init__(self, name: str, mode: str, *, clip: float | None, waits: bool, parts: int = 1, l1: float = 0) -> None:
        self.model = network()
        config = OptimizerConfig(name=name, lr=0.02, l2=0.05, rest_lr=0.01, l1=l1)
        self.optimizer = build_optimizer(self.model, config, head=("5",))
        settings = PrecisionConfig(mode=mode, scale=1024.0, scale_interval=3)
        self.precision = Precision(settings, self.model, self.optimizer, clip_norm=clip, waits=waits)
        self.penalty = L1Penalty(self.optimizer, l1)
        self.average = Average(self.model, 0.9)
        self.parts = parts

    def step(self, images: Tensor, labels: Tensor, share: float | Tensor) -> bool | Tensor:
        set_rates(self.optimizer, lambda lane: share)
        for start, end in pairwise(even_parts(len(images), self.parts)):
            with self.precision.forward():
                loss = F.cross_entropy(self.model(images[start:end]), labels[start:end])
            self.precision.backward(loss * ((end - start) / len(images)))
        self.penalty.add_gradients(self.precision.scale)
        applied = self.precision.step().applied
        self.average.update(applied)
        return applied

    def bits(self) -> list[bytes]:
        """All that a step may change, in a fixed order."""
        tensors = [*self.model.state_dict().values(), *self.average.module.state_dict().values()]
        for parameter in self.model.parameters():
            tensors += [value for _, value in sorted(self.optimizer.state[parameter].items()) if value is not None]
        numbers = [str(self.average.num_updates), str(self.precision.state_dict())]
        return [*(tensor.detach().numpy().tobytes() for tensor in tensors), *(text.encode() for text in numbers)]


def follow(training: Training, *, on_device: bool, steps: int = 12) -> list[bool]:
    """Train; the rate follows the applied steps, on the device or off it."""
    step: int | Tensor = torch.zeros((), dtype=torch.int64) if on_device else 0
    shares = [1 - number / 20 for number in range(steps)]
    table = torch.tensor(shares, dtype=torch.float64)
    applied = []
    for number, (images, labels) in enumerate(batches(steps)):
        torch.manual_seed(number)
        if number in BAD:
            images[1, 0, 2, 2] = (math.inf, math.nan)[number % 2]
        applied.append(training.step(images, labels, table.take(step) if isinstance(step, Tensor) else shares[step]))
        step = step + applied[-1]
    return [bool(flag) for flag in applied]


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16", "bf16-true", "fp16-true"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_device_decides_as_the_host_does_to_the_bit(name: str, mode: str, clip: float | None) -> None:
    host = Training(name, mode, clip=clip, waits=True)
    device = Training(name, mode, clip=clip, waits=False)
    assert (host.precision.waits, device.precision.waits) == (True, False)
    decided = [follow(training, on_device=not training.precision.waits) for training in (host, device)]
    assert decided[0] == decided[1] == [number not in BAD for number in range(12)]
    assert host.bits() == device.bits()


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("mode", ["fp32", "fp16"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_in_parts_and_with_a_penalty(name: str, mode: str, clip: float | None) -> None:
    host = Training(name, mode, clip=clip, waits=True, parts=3, l1=1e-3)
    device = Training(name, mode, clip=clip, waits=False, parts=3, l1=1e-3)
    assert follow(host, on_device=False) == follow(device, on_device=True)
    assert host.bits() == device.bits()


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16", "bf16-true", "fp16-true"])
def test_nothing_is_read(name: str, mode: str) -> None:
    training = Training(name, mode, clip=0.5, waits=False, parts=2, l1=1e-3)
    with nothing_is_read():
        step = torch.zeros((), dtype=torch.int64)
        table = torch.linspace(1, 0, 5, dtype=torch.float64)
        for number, (images, labels) in enumerate(batches(4)):
            applied = training.step(images * (math.inf if number in (0, 2) else 1), labels, table.take(step))
            assert isinstance(applied, Tensor)
            step = step + applied
    assert int(step) == training.average.num_updates == 2


@pytest.mark.parametrize("read", [float, bool, Tensor.item, Tensor.tolist, Tensor.nonzero, lambda t: torch.equal(t, t)])
def test_the_watch_sees_reading(read: object) -> None:
    assert callable(read)
    with pytest.raises(AssertionError, match="reads"), nothing_is_read():
        read(torch.ones(()))


@pytest.mark.parametrize("clip", [0.1, 0.3, 1.0])
def test_clipping_begins_at_the_same_norm(clip: float) -> None:
    """The device compares in float64, as Python does: 0.1 is less than its nearest float32, 0.3 is more."""
    results = []
    for waits in (True, False):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1.0, fused=True)
        parameter.grad = torch.tensor([clip])
        Precision("fp32", nn.Identity(), optimizer, clip_norm=clip, waits=waits).step()
        results.append(float(parameter.detach()))
    assert results[0] == results[1]


@pytest.mark.parametrize("gradient", [0.0, -0.0, 3.0])
@pytest.mark.parametrize("num_bad", [0, 1, 2])
def test_momentum_begins_as_if_no_step_had_been_skipped(gradient: float, num_bad: int) -> None:
    """torch's fused SGD leaves it in memory that nobody filled if its first step is skipped; zeros keep their sign."""
    bits = []
    for waits in (True, False):
        parameter = nn.Parameter(torch.tensor([-0.0, 0.0, 1.0]))
        optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=True, fused=True)
        precision = Precision("fp32", nn.Identity(), optimizer, waits=waits)
        for number in range(num_bad + 2):
            parameter.grad = torch.full((3,), math.nan if number < num_bad else gradient)
            precision.step()
        bits.append([t.detach().numpy().tobytes() for t in (parameter, optimizer.state[parameter]["momentum_buffer"])])
    assert bits[0] == bits[1]


def test_who_waits() -> None:
    model = nn.Linear(2, 2)

    def waits(optimizer: torch.optim.Optimizer, wanted: bool | None = False) -> bool:
        return Precision("fp32", model, optimizer, waits=wanted).waits

    assert waits(sgd(model, fused=True), None)  # on the CPU
    assert waits(sgd(model, fused=True), True)
    assert not waits(sgd(model, fused=True))
    assert waits(sgd(model))
    assert waits(torch.optim.SGD(model.parameters(), momentum=0.9, dampening=0.5, fused=True))
    assert waits(torch.optim.RMSprop(model.parameters()))
    assert waits(torch.optim.NAdam(model.parameters()))
    assert not waits(torch.optim.Adam(model.parameters(), fused=True))
    assert waits_by_default(torch.device("cpu"))
    assert waits_by_default(torch.device("mps"))
    assert not waits_by_default(torch.device("cuda"))


@pytest.mark.parametrize("name", [*FUSED, "rmsprop", "nadam"])
def test_the_optimizers_of_a_recipe_that_take_a_flag(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.1, l2=0.0, rest_lr=0.1)
    assert takes_a_flag(build_optimizer(network(), config, head=())) == (name in FUSED)
