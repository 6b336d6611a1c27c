"""Memory that runs out within a step or an evaluation: the update is that of a run that had asked for the parts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import ResourceError
from halftone.loop.evaluate import conclude, evaluate
from halftone.loop.events import BatchDivided, EpochDone, EvaluationDivided, LoopEvent, StepTaken
from halftone.loop.session import Session
from halftone.loop.state import Progress
from halftone.loop.train import train
from loop.small_sessions import BATCH, bits, session_of

ON_CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ERRORS = [
    ON_CUDA,
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


class Narrow(nn.Module):
    """A layer that has memory for so many images only, in the forward or in the backward pass, from a step on."""

    def __init__(self, room: int, error: Exception = ON_CUDA, *, backward: bool = False, after: int = 0) -> None:
        super().__init__()
        self.room, self.error, self.backward, self.after = room, error, backward, after
        self.evaluated = 10**9

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and len(images) > self.evaluated:
            raise self.error
        self.after -= self.training
        if self.training and self.after < 0 and len(images) > self.room:
            if not self.backward:
                raise self.error
            images = images.clone()
            images.register_hook(self.refuse)
        return images

    def refuse(self, gradient: Tensor) -> None:
        raise self.error


def narrow(session: Session, layer: Narrow) -> Session:
    """The session with dropout at its end, and a layer behind it that lacks memory.

    If it is to fail in the backward pass, it lies in the middle: there the head has its gradient, and the convolution
    has none yet.
    """
    model = nn.Sequential(session.model, nn.Dropout(0.4), nn.Identity() if layer.backward else layer)
    assert isinstance(session.model, nn.Sequential)
    session.model.insert(3, layer if layer.backward else nn.Identity())
    return replace(session, model=model, forward=model)


def trained(session: Session) -> tuple[Any, list[LoopEvent]]:
    progress = Progress.start(session.device)
    torch.manual_seed(7)
    events = list(train(session, progress, max_skipped=10))
    progress.divided = 1  # what was to be the same is the rest
    return bits(session, progress, leave_out=("evaluated_at_once",)), events


def divided(events: list[LoopEvent]) -> list[BatchDivided]:
    return [event for event in events if isinstance(event, BatchDivided)]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("mode", ["fp32", "bf16-true", "fp16"])
@pytest.mark.parametrize("waits", [True, False], ids=["host", "device"])
def test_D9_D10_a_step_that_ran_out_of_memory_is_that_of_the_parts_it_was_made_in(
    mode: Any, waits: bool, backward: bool
) -> None:
    """Gradients, the statistics of batch normalisation, dropout, rates, averages: the same to the bit."""
    short = narrow(session_of(waits=waits, mode=mode), Narrow(2, backward=backward))
    asked = narrow(session_of(waits=waits, mode=mode, accumulate=4), Narrow(10**9))
    (found, events), (control, _) = trained(short), trained(asked)
    assert found == control
    (event,) = divided(events)
    assert (event.tried, event.num_images, event.num_parts, event.normalised) == (1, BATCH, 4, True)
    assert "out of memory" in event.shortage
    assert [done.num_parts for done in events if isinstance(done, EpochDone)] == [4, 4]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("mode", ["fp32", "bf16-true"])
def test_D10_no_half_gradients_are_left_when_memory_runs_out_in_a_later_part(mode: Any, backward: bool) -> None:
    """The first part has left gradients, counted its statistics and drawn dropout; the second finds no memory."""
    short = narrow(session_of(waits=True, mode=mode, accumulate=2), Narrow(2, backward=backward, after=1))
    asked = narrow(session_of(waits=True, mode=mode, accumulate=4), Narrow(10**9))
    (found, events), (control, _) = trained(short), trained(asked)
    assert found == control
    assert [event.num_parts for event in divided(events)] == [4]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_D9_all_ways_to_run_out_of_memory_are_known(error: Exception) -> None:
    _, events = trained(narrow(session_of(waits=True, epochs=1), Narrow(4, error, after=5)))
    (event,) = divided(events)
    assert (event.tried, event.num_parts) == (6, 2)
    assert len([step for step in events if isinstance(step, StepTaken)]) == 12


def test_D9_what_cannot_be_divided_further_ends_and_leaves_the_weights_as_they_were() -> None:
    session = narrow(session_of(waits=True, epochs=1), Narrow(1, after=3))
    progress, before = Progress.start(session.device), ([], None)
    with pytest.raises(ResourceError, match="not even a pass of 2 images fits") as caught:
        for event in train(session, progress, max_skipped=10):
            if isinstance(event, StepTaken):
                before = bits(session, progress)
    assert "smaller --size" in caught.value.hint
    assert bits(session, progress)[0] == before[0]  # all but the rate of the step that was not made
    assert (progress.tried, progress.step) == (3, 3)


def test_other_faults_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trained(narrow(session_of(waits=True), Narrow(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))))


@pytest.mark.parametrize("room", [1, 2, 3])
def test_D9_an_evaluation_that_runs_out_of_memory_counts_every_image_once(room: int) -> None:
    layer = Narrow(10**9)
    session = narrow(session_of(waits=True, epochs=1, average=0.0), layer)
    session.model.eval()
    whole = conclude(evaluate(session.model, session.validation))
    layer.evaluated = room
    divided = conclude(evaluate(session.model, session.validation))
    assert (divided.at_once, whole.at_once) == ({1: 1, 2: 1, 3: 3}[room], 6)
    assert divided.metrics.confusion == whole.metrics.confusion
    assert divided.metrics.num_images == whole.metrics.num_images == 6
    assert divided.metrics.loss == pytest.approx(whole.metrics.loss, rel=1e-6)
    assert divided.indices.tolist() == whole.indices.tolist()
    _, events = trained(session)
    (event,) = (event for event in events if isinstance(event, EvaluationDivided))
    assert (event.part, event.at_once, event.tried) == ("validation", divided.at_once, 12)


def test_D9_an_evaluation_goes_on_with_the_passes_that_fitted() -> None:
    calls: list[int] = []

    class Counting(Narrow):
        def forward(self, images: Tensor) -> Tensor:
            if not self.training:
                calls.append(len(images))
            return super().forward(images)

    layer = Counting(10**9)
    layer.evaluated = 2
    session = narrow(session_of(waits=True, epochs=2, average=0.0), layer)
    _, events = trained(session)
    assert calls == [6, 3, *[1] * 6, *[1] * 6]
    assert len([event for event in events if isinstance(event, EvaluationDivided)]) == 1


def test_D9_a_single_image_that_does_not_fit_ends_an_evaluation() -> None:
    layer = Narrow(10**9)
    session = narrow(session_of(waits=True), layer)
    session.model.eval()
    layer.evaluated = 0
    with pytest.raises(ResourceError, match="not even a pass of one image"):
        conclude(evaluate(session.model, session.validation))
