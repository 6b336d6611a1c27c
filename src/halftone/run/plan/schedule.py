"""The part of the plan that concerns the course of the rate: by rule; what is measured refines it."""

from halftone.base.lengths import parse_span
from halftone.optim.config import OptimizerConfig, OptimizerName
from halftone.run.plan import decide
from halftone.run.plan.notebook import Notebook
from halftone.run.recipe import Recipe
from halftone.schedule.config import FIRST_SHARE, DecayConfig, WarmupConfig

_LOW_MOMENTUM, _HIGH_MOMENTUM = 0.85, 0.95
"""Of a one-cycle, at the peak and at both ends (Smith 2018, section 4.2; torch's OneCycleLR)."""


def settle_schedule(
    recipe: Recipe, notes: Notebook, *, name: OptimizerName, trained: bool
) -> tuple[WarmupConfig, DecayConfig, dict[str, float]]:
    """Settle warmup and decay by rule.

    Args:
        recipe: the wish.
        notes: where choices are written down.
        name: of the optimizer.
        trained: whether the run starts from trained weights.

    Returns:
        Warmup, decay, and changes to the optimizer.
    """
    asked, decay = recipe.warmup, recipe.decay
    cycle = decay.shape == "one-cycle"
    shape, start, length = asked.shape, asked.start, asked.length
    if shape == "auto" and cycle:
        shape = "cosine"
    elif shape == "auto":
        shape = "adaptive" if length == "auto" else "linear"
    if length == "auto":
        choice = decide.cycle_length() if cycle else decide.warmup_length(name, has_weights=trained)
        length = parse_span(notes.settle("warmup.length", "auto", choice))
    if start == "auto":
        start = min(decide.CYCLE_START if cycle else FIRST_SHARE, asked.end)
    warmup = asked.replaced(length=length, shape=shape, start=start)
    if not cycle or asked.momentum is not None or decay.momentum is not None:
        return warmup, decay, {}
    low = recipe.optimizer.momentum if "momentum" in recipe.optimizer.model_fields_set else _LOW_MOMENTUM
    notes.note("momentum", f"{_HIGH_MOMENTUM:g}, {low:g} at the peak", "a one-cycle moves it against the rate")
    ends = {"momentum": _HIGH_MOMENTUM}
    return warmup.replaced(**ends), decay.replaced(**ends), {"momentum": low, "beta1": low}


def scaled_rate(asked: OptimizerConfig, lr: float, batch: int, notes: Notebook) -> float:
    """Return the rate for a batch, if it was given for another one and is to follow the batch."""
    if asked.lr_scaling == "off" or asked.lr == "auto":
        return lr
    factor = batch / asked.lr_batch
    factor = factor**0.5 if asked.lr_scaling == "sqrt" else factor
    scaled = float(f"{lr * factor:.6g}")
    how = "proportional to the batch" if asked.lr_scaling == "linear" else "by the square root of the batch"
    notes.note("optimizer.lr", scaled, f"{lr:g} for {asked.lr_batch} images, {how} of {batch}")
    return scaled
