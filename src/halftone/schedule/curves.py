"""The curves: pure functions to a share of the peak rate.

Warmup curves take the step and the length of the warmup, and reach 1 at `step == length`. Decay curves take the
steps since the warmup and the length of the decay, and are 1 at step 0, so that the join is continuous. Where
torch has the same scheduler (LinearLR, CosineAnnealingLR, ...) the values are equal at every step.
"""

import math
from collections.abc import Sequence

from halftone.schedule.config import CooldownShape


def linear_warmup(step: int, length: int, start: float) -> float:
    """Rise in equal amounts (Goyal et al. 2017, section 2.2)."""
    return start + (1 - start) * step / length


def exponential_warmup(step: int, length: int, start: float) -> float:
    """Rise by equal factors."""
    return float(start ** (1 - step / length))


def cosine_warmup(step: int, length: int, start: float) -> float:
    """Rise along half a cosine: slowly, quickly, slowly."""
    return start + (1 - start) * (1 - math.cos(math.pi * step / length)) / 2


def constant_warmup(step: int, length: int, start: float) -> float:
    """Stay at the start, then jump (He et al. 2016, section 4.2)."""
    return start if step < length else 1.0


def cosine_decay(step: int, length: int, end: float) -> float:
    """Fall along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return end + (1 - end) * (1 + math.cos(math.pi * min(step / length, 1))) / 2


def cosine_restarts(step: int, cycle: int, growth: int, end: float) -> float:
    """Fall along half a cosine, again and again, each time `growth` times as long (Loshchilov and Hutter 2017)."""
    while step >= cycle:
        step -= cycle
        cycle *= growth
        if growth == 1:
            step %= cycle
    return cosine_decay(step, cycle, end)


def stable_decay(step: int, length: int, cooldown: int, end: float, shape: CooldownShape) -> float:
    """Stay at the peak and fall in the last `cooldown` steps (Zhai et al. 2022, section 3.5; "WSD" of Hu et al. 2024).

    The shape `sqrt` is 1 - sqrt(share of the cooldown) of Hägele et al. 2024, section 3.
    """
    share = min(max(step - (length - cooldown), 0) / cooldown, 1)
    fallen = {"linear": share, "cosine": (1 - math.cos(math.pi * share)) / 2, "sqrt": math.sqrt(share)}[shape]
    return end + (1 - end) * (1 - fallen)


def polynomial_decay(step: int, length: int, end: float, power: float) -> float:
    """Fall as a power of what remains; 1 is linear."""
    return float(end + (1 - end) * (1 - min(step / length, 1)) ** power)


def exponential_decay(step: int, length: int, end: float) -> float:
    """Fall by equal factors to `end`, which is above zero."""
    return float(end ** min(step / length, 1))


def step_decay(step: int, every: int, gamma: float) -> float:
    """Fall by a factor each `every` steps."""
    return float(gamma ** (step // every))


def multistep_decay(step: int, milestones: Sequence[int], gamma: float) -> float:
    """Fall by a factor at each milestone."""
    return float(gamma ** sum(step >= milestone for milestone in milestones))
