"""Small sessions with all that a step touches, for the tests of the loop."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from halftone.loop.session import Session
from halftone.loop.state import Progress, capture
from halftone.precision.config import Mode, PrecisionConfig
from halftone.precision.verbs import Precision
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from halftone.run.tree import flatten
from samples import stripes

BATCH = 8


@cache
def _pictures() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return stripes(12 * BATCH, size=8), stripes(6, size=8, seed=3)


def session_of(
    *,
    waits: bool,
    mode: Mode = "fp32",
    scaling: str = "auto",
    poison: Callable[[int], bool] = lambda tried: False,
    model: Callable[[], nn.Module] | None = None,
    **settings: Any,
) -> Session:
    """A session of 12 batches an epoch whose host decides, or whose device does.

    Args:
        waits: whether the host decides.
        mode: of precision, which a plan may find too slow here.
        scaling: of the loss.
        poison: tells by the number of the steps tried before which batches hold an infinite pixel.
        model: makes another network than the usual one.
        settings: of the recipe.
    """
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
    values: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "augment": "none", "epochs": 2, "average": 0.9}
    values |= {"warmup": "6it", "batch_size": BATCH, "l1": 1e-4, "threads": 1, "device": "cpu", "keep_memory": False}
    recipe = Recipe.parse({**values, "precision": "fp32", **settings})
    session = build_session(make_plan(recipe, data=_pictures(), model=model() if model else nn.Sequential(*layers)))
    config = PrecisionConfig.model_validate({"mode": mode, "scaling": scaling, "scale": 1024.0, "scale_interval": 4})
    precision = Precision(config, session.model, session.optimizer, clip_norm=1.0, waits=waits)
    assert precision.waits == waits
    tried = iter(range(10**6))

    def prepare(images: Tensor) -> Tensor:
        images = session.prepare(images)
        if poison(next(tried)):
            images[0, 0, 1, 1] = math.inf
        return images

    return replace(session, precision=precision, prepare=prepare)


def bits(session: Session, progress: Progress, *, leave_out: tuple[str, ...] = ()) -> tuple[list[bytes], Any]:
    """All that a checkpoint holds, but for the clock and some numbers of the progress."""
    state = capture(session, progress)
    for name in ("seconds", "train_seconds", "wait_seconds", *leave_out):
        del state["progress"][name]
    tensors, tree = flatten(state)
    return [tensor.detach().numpy().tobytes() for tensor in tensors.values()], tree
