"""Whether a network is compiled, where that was left at auto: by what its own steps take, compiled and not."""

import time
from dataclasses import replace
from statistics import median

import torch

from halftone.base.records import decided
from halftone.data.feed import Batch
from halftone.loop.range_test import endless_batches
from halftone.loop.session import Session
from halftone.loop.step import update
from halftone.models.compiled import compiled
from halftone.models.own import is_own
from halftone.precision.formats import float32_arithmetic
from halftone.run.measuring import measuring
from halftone.run.plan import cache, compiling
from halftone.run.plan.compiling import StepTimes
from halftone.run.plan.decide import Decision
from halftone.run.plan.make import Prepared
from halftone.run.plan.network import GIVEN
from halftone.system.device import wait_for
from halftone.version import __version__

_SECONDS = 10.0
"""That steps are timed for, about; compiling comes on top."""
_FEWEST_TURNS, _MOST_TURNS = 3, 15


def with_compile(prepared: Prepared) -> Prepared:
    """Settle by measuring whether the network is compiled.

    Steps of a copy are timed, which leaves no trace. Nothing is compiled for a run that is too short to gain by it;
    where measuring fails, as without a C++ compiler on a CPU, the network is not compiled. What was compiled for the
    copy serves a run in the same process, which then begins without a wait.

    Args:
        prepared: a plan by rule, with the network.
    """
    try:
        found = _decided(prepared)
    except Exception as error:  # the user's own network, and a compiler: whatever goes wrong, the run goes on
        said = " ".join(str(error).split()).removeprefix("model.compile: ")[:200] or type(error).__name__
        found = Decision(value=False, reason=f"measuring failed: {said}")
    plan = prepared.plan.with_choice("model.compile", found.value, found.reason)
    model = plan.settled.model.replaced(compile=found.value)
    return prepared.with_plan(plan.replaced(settled=plan.settled.replaced(model=model)))


def _decided(prepared: Prepared) -> Decision[bool]:
    """Decide by what was measured for such steps before, or measure."""
    num_steps, key = prepared.plan.total_steps, _key(prepared)
    known = None if key is None else cache.read("compile", key, StepTimes)
    if known is not None:
        found = compiling.worth(known, num_steps)
        return Decision(found.value, f"{found.reason}; measured before, on this machine")
    precision = prepared.plan.settled.precision
    with (
        measuring(prepared, num_batches=1, whole=True) as session,
        float32_arithmetic(decided(precision.mode)),
    ):
        for group in session.optimizer.param_groups:
            group["peak"] = 0.0  # the weights stay, and each step does the same work
        batch = next(endless_batches(session))
        _seconds(session, batch)  # the first one prepares what the next ones use
        step = min(_seconds(session, batch) for _ in range(2))
        why_not = compiling.too_short(step, num_steps)
        if why_not:
            return Decision(value=False, reason=why_not)
        times = _measure(session, batch, step)
    if key is not None:
        cache.write("compile", key, times)
    return compiling.worth(times, num_steps)


def _measure(session: Session, batch: Batch, step: float) -> StepTimes:
    """Compile the network and time steps with it and without, in turns, so that a noisy machine favours neither.

    Args:
        session: of a copy of the network.
        batch: to train on.
        step: seconds that one takes, not compiled.
    """
    whole = replace(session, forward=compiled(session.model))
    # two: what the first one leaves behind may be compiled for once more
    first = _seconds(whole, batch) + _seconds(whole, batch)
    turns = max(_FEWEST_TURNS, min(_MOST_TURNS, int(_SECONDS / (2 * step))))
    pairs = [(_seconds(session, batch), _seconds(whole, batch)) for _ in range(turns)]
    eager, fast = (median(times) for times in zip(*pairs, strict=True))
    return StepTimes(eager=eager, compiled=fast, wait=max(0.0, first - 2 * fast), turns=turns)


def _seconds(session: Session, batch: Batch) -> float:
    """Take a training step and return how long it took."""
    wait_for(session.device)
    clock = time.perf_counter()
    update(session, batch, step=0, tried=1)
    wait_for(session.device)
    return time.perf_counter() - clock


def _key(prepared: Prepared) -> str | None:
    """Return what the times depend on, hashed: the network, what a step does, the machine, versions.

    None for a network of others, whose code may change unseen.
    """
    plan, settled, module = prepared.plan, prepared.plan.settled, prepared.built.module
    if settled.model.name == GIVEN or is_own(settled.model.name):
        return None
    kept = {"model", "batch_size", "accumulate", "precision", "loss", "augment", "average"}
    return cache.key_of(
        str(module),
        [(name, tuple(value.shape), value.requires_grad) for name, value in module.named_parameters()],
        settled.model_dump(mode="json", include={*kept, "threads", "keep_memory", "deterministic"}),
        settled.optimizer.name,
        plan.input.model_dump(mode="json"),
        (plan.device, torch.__version__, __version__),
    )
