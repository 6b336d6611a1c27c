"""What can be asked of a study."""

from typing import Literal

from pydantic import Field

from halftone.base.records import Record


class TuneConfig(Record):
    """How a study searches and judges."""

    trials: int = Field(default=30, ge=1, le=100_000)
    """Runs in the whole study, whichever process trains them; the first one has the defaults."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How values are chosen: by what did well so far (`tpe`, Bergstra et al. 2011), at `random`, or all combinations
    (`grid`)."""
    pruner: Literal["hyperband", "median", "none"] = "hyperband"
    """How poor runs are ended early: at growing numbers of epochs, the best third of them goes on (`hyperband`, Li et
    al. 2018); those below the `median` of the others at the same epoch; or `none`."""
    judged: Literal["best", "last"] = "best"
    """Which epoch of a run counts, the `best` or the `last`; --stop.metric is what is measured."""
    confirm: int = Field(default=0, ge=0, le=1000)
    """At the end, train the best and the defaults again, with so many fresh seeds each."""
