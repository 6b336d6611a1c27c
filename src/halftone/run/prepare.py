"""From a recipe to everything that a run needs: planned by rule, started from its weights, then measured."""

from dataclasses import replace
from typing import Any

from torch import nn

from halftone.base.laps import Laps
from halftone.run.compiling import with_compile
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.preview import with_warnings
from halftone.run.rates import with_rates
from halftone.run.recipe import Recipe
from halftone.run.start import with_start


def prepare(
    recipe: Recipe,
    *,
    data: Any = None,
    model: nn.Module | None = None,
    fetch: bool = True,
    check_peak: bool = False,
) -> Prepared:
    """Plan a run, open its data, and build its network with the weights that it starts from.

    Args:
        recipe: the wish.
        data: data passed in Python, for the source `given`.
        model: a network passed in Python, used instead of the recipe's.
        fetch: whether published weights are wanted now; a plan that is only looked at downloads nothing.
        check_peak: whether a peak rate that was asked for is checked against a measured range.

    Raises:
        HalftoneError: the wish cannot be fulfilled; see its kinds.
    """
    planned, laps = make_plan(recipe, data=data, model=model), Laps()
    started = with_start(planned, fetch=fetch)
    laps.lap("weights")
    measured = with_rates(started, fetch=fetch, check_peak=check_peak)
    laps.lap("rates")
    if recipe.model.compile == "auto":
        measured = with_compile(measured)
        laps.lap("compiling")
    seconds = planned.seconds | laps.seconds
    return replace(measured, plan=with_warnings(measured.plan), seconds=seconds)
