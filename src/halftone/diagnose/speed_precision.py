"""The pace of a network in the precisions that its device has hardware for."""

import copy
from statistics import median
from time import perf_counter

from torch import Tensor

from halftone.base.records import decided
from halftone.loop.session import Session
from halftone.precision.config import PrecisionConfig
from halftone.precision.trial import Trial, affordable
from halftone.run.plan.make import Prepared
from halftone.run.plan.precision import candidates
from halftone.system.device import device_facts

_ROUNDS = 3


def precision_paces(
    prepared: Prepared, session: Session, inputs: Tensor, targets: Tensor, *, seconds: float
) -> dict[str, float]:
    """Return the images per second of training steps in each precision, by its name, the plan's own included.

    Nothing where the plan has measured that already (`auto`), where there is nothing to choose from, or where the
    plan's own is none of those: a rehearsal, fp8.

    Args:
        prepared: a planned run.
        session: of a copy of its network.
        inputs: a batch as the network takes it, [batch, channels, height, width].
        targets: [batch], or [batch, classes].
        seconds: to take, about.
    """
    asked = prepared.plan.settled.precision
    own = decided(asked.mode)
    # fp16 is no faster than bf16 and needs a loss scale
    modes = [mode for mode in candidates(device_facts(session.device)) if mode == own or not mode.startswith("fp16")]
    if prepared.plan.asked.precision.mode == "auto" or asked.emulate or own not in modes or len(modes) < 2:
        return {}
    configs = {mode: PrecisionConfig(mode=mode) for mode in modes}
    configs[own] = PrecisionConfig(mode=own, layers=asked.layers)
    model = copy.deepcopy(session.model)
    part = max(2, len(inputs) // session.parts)
    size, _ = affordable(model, inputs[:part], targets[:part], session.criterion, seconds=seconds)
    trial = Trial(model, inputs[:size], targets[:size], session.criterion)
    able = {mode: config for mode, config in configs.items() if not trial.runs(config)}
    times: dict[str, list[float]] = {mode: [] for mode in able}
    end = perf_counter() + seconds
    for turn in range(_ROUNDS):
        for mode, config in able.items():
            if turn == 0 or perf_counter() < end:
                times[mode].append(trial.seconds(config))
    return {mode: size / median(taken) for mode, taken in times.items()}
