"""Into how many parts a plan divides a batch: by what a step takes, and by what is free."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from halftone.loop.passes import even_parts
from halftone.run.plan import room
from halftone.run.plan.decide import Decision
from halftone.run.plan.make import make_plan
from halftone.run.plan.room import parts
from halftone.run.training import training
from samples import stripes, wish, write_npz

GB = 2**30


@pytest.mark.parametrize(
    ("batch", "fixed", "per_image", "count", "said"),
    [
        (32, GB, GB // 100, 1, "a step on 32 images takes about 1.3 GB of the 10.0 GB that are free"),
        (64, 0, GB // 8, 1, "a step on 64 images takes about 8.0 GB of the 10.0 GB that are free"),
        (65, 0, GB // 8, 2, "a step on 65 images at once would take about 8.1 GB, and {}"),
        (256, 2 * GB, GB // 8, 6, "a step on 256 images at once would take about 34.0 GB, and {}"),
        (
            8,
            9 * GB,
            GB,
            4,
            "a step on 8 images at once would take about 17.0 GB, and {}; even two may be too much",
        ),
    ],
)
def test_a_batch_is_divided_by_what_fits(batch: int, fixed: int, per_image: int, count: int, said: str) -> None:
    found = parts(batch, fixed=fixed, per_image=per_image, free=10 * GB)
    assert found == Decision(count, said.format("it may take 80% of the 10.0 GB that are free"))


def largest(batch: int, count: int) -> int:
    return max(end - start for start, end in pairwise(even_parts(batch, count)))


@given(st.integers(1, 2000), st.integers(0, 10**6), st.integers(1, 10**4), st.integers(0, 10**8))
def test_the_parts_fit_and_are_no_more_than_needed(batch: int, fixed: int, per_image: int, free: int) -> None:
    count = parts(batch, fixed=fixed, per_image=per_image, free=free).value

    def fits(count: int) -> bool:
        return fixed + largest(batch, count) * per_image <= int(0.8 * free)

    assert len(even_parts(batch, count)) - 1 == count
    assert fits(count) or count == max(1, batch // 2)
    assert count == 1 or not fits(count - 1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "tiny.npz")


class Counting(nn.Module):
    """A network that notes how many images it trains on, and cannot take more than it has room for."""

    given: ClassVar[list[int]] = []

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 3))
        self.room = room

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            Counting.given.append(len(images))
            if len(images) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layers(images)


Plan = Callable[..., tuple[int, str]]


@pytest.fixture
def planned(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Plans with so much free memory; returns the parts and the reason."""

    def plan(free: int, network: nn.Module | None = None, **settings: Any) -> tuple[int, str]:
        monkeypatch.setattr(room, "available_bytes", lambda device: free)
        Counting.given.clear()
        found = make_plan(wish(tiny, tiny.parent, lr=0.1, **settings), model=network or Counting()).plan
        said = [choice.reason for choice in found.choices if choice.setting == "accumulate"]
        return int(found.settled.accumulate), "".join(said)

    return plan


def test_a_small_step_is_not_weighed(planned: Plan) -> None:
    assert planned(8 * GB) == (1, "a step is small beside the memory that is free")
    assert Counting.given == []


def test_what_a_step_keeps_is_weighed_on_four_images(planned: Plan) -> None:
    """Its input and two outputs of 8 x 14 x 14: 21 kB an image, a quarter more at the peak, and 32 MB for libraries."""
    found, said = planned(2**26)
    assert (found, Counting.given) == (1, [4])
    assert said == "a step on 16 images takes about 33 MB of the 64 MB that are free"
    free = int((2**25 + 6 * 4 * 5000 + 8.1 * 1.25 * 21952) / 0.8)
    found, said = planned(free)
    assert found in (2, 3)
    assert "may take 80% of" in said


def test_what_was_asked_stays_and_nothing_is_weighed(planned: Plan) -> None:
    assert planned(2**16, accumulate=1) == (1, "")
    assert planned(2**16, accumulate=3) == (3, "")
    assert Counting.given == []


def test_a_network_that_cannot_be_weighed_is_not_divided(planned: Plan) -> None:
    class Fault(Counting):
        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                raise ValueError("of its own")
            return super().forward(images)

    assert planned(2**16, Fault()) == (1, "what a step takes could not be weighed: of its own")
    found = planned(2**16, Counting(room=2))
    assert found == (8, "a step on 8 images at once does not fit into memory")


def test_weighing_changes_nothing_in_a_run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weights, statistics nor random numbers."""

    def losses(free: int) -> list[float]:
        monkeypatch.setattr(room, "available_bytes", lambda device: free)
        torch.manual_seed(3)
        network = nn.Sequential(Counting().layers[:4], nn.Dropout(0.3), nn.Linear(1568, 3))
        events = training(wish(tiny, tiny.parent / "runs", lr=0.1, epochs=1), model=network)
        return [float(event.loss) for event in events if type(event).__name__ == "StepTaken"]

    assert losses(2**40) == losses(2**26)


def test_the_evaluation_follows_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures are evaluated in passes of the size that training fits in, and no less than 64."""
    monkeypatch.setattr(room, "available_bytes", lambda device: 2**16)
    data = stripes(300, size=96), stripes(200, size=96, seed=1)
    plan = make_plan(wish(Path("given"), tmp_path, batch_size=256, lr=0.1, epochs=1, model="cnn"), data=data).plan
    assert (plan.settled.accumulate, plan.evaluation_batch) == (128, 64)
