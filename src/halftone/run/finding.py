"""A range test on request: the loss at each rate, and the rate that it suggests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from halftone.base.records import decided
from halftone.loop.range_test import RangePoint, range_test
from halftone.run.measuring import measuring
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import MeasuredRates, Plan
from halftone.run.rates import read_points
from halftone.run.recipe import Recipe
from halftone.run.start import with_start
from halftone.schedule.range_curve import FEWEST_POINTS, smoothed_log

LOWEST, HIGHEST = 1e-4, 1e2
"""Of the peak rate that the recipe names, or that the rule would take."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """A range test that was made."""

    plan: Plan
    points: tuple[RangePoint, ...]
    num_steps: int
    """That were meant; fewer points mean that the loss exploded."""

    @property
    def peak(self) -> float:
        """The peak rate of the plan, asked or by rule."""
        return decided(self.plan.settled.optimizer.lr)

    @property
    def rates(self) -> list[float]:
        """The rate of each point, [points]."""
        return [point.share * self.peak for point in self.points]

    @property
    def losses(self) -> list[float]:
        """The loss of each point, [points]."""
        return [point.loss for point in self.points]

    @property
    def smoothed(self) -> list[float]:
        """The loss without its noise, [points]; as it is where the points are too few."""
        return np.exp(smoothed_log(self.losses)).tolist() if len(self.points) >= FEWEST_POINTS else self.losses

    @property
    def measured(self) -> MeasuredRates:
        """What the test says."""
        return read_points(self.points, self.peak, num_steps=self.num_steps)

    def table(self) -> str:
        """Write the points as CSV."""
        points = zip(self.rates, self.losses, self.smoothed, strict=True)
        return "rate,loss,smoothed\n" + "".join(f"{rate:.6g},{loss:.6g},{even:.6g}\n" for rate, loss, even in points)

    def sentences(self) -> Iterator[str]:
        """Say what was found, for people."""
        found, optimizer = self.measured, self.plan.settled.optimizer.name
        tested = f"{len(self.points)} steps of {self.plan.settled.batch_size} images with {optimizer}"
        yield f"{tested}, at rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        if found.suggestion is None:
            why = "the loss fell at none of them" + (
                "" if found.edge is None else f", and exploded at {found.edge:.2g}"
            )
            yield f"{why}: no suggestion; look at the picture, or test other rates by another --lr"
            return
        yield f"the loss fell fastest at {found.steepest:.2g}"
        if found.edge is None:
            yield "it never rose: the largest rate that was tried is stable"
        else:
            yield f"it rose from {found.edge:.2g} on"
        yield f"suggestion: --lr {found.suggestion:.2g}"


def begin_range_test(
    recipe: Recipe, *, num_steps: int, data: Any = None, model: nn.Module | None = None
) -> tuple[Plan, Iterator[RangePoint]]:
    """Prepare a range test on a copy of the network; see `halftone.loop.range_test`.

    Args:
        recipe: what would be trained.
        num_steps: from the lowest to the highest rate.
        data: data passed in Python.
        model: a network passed in Python; it stays as it is.

    Returns:
        The plan, and the points, which are measured as they are asked for.

    Raises:
        HalftoneError: as for training.
    """
    prepared = with_start(make_plan(recipe, data=data, model=model))
    return prepared.plan, _points(prepared, num_steps)


def _points(prepared: Prepared, num_steps: int) -> Iterator[RangePoint]:
    with measuring(prepared, num_batches=num_steps) as session:
        yield from range_test(session, num_steps=num_steps, lowest=LOWEST, highest=HIGHEST)
