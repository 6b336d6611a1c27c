"""What a study is made of: what its trials came to, what it found, and what it says while it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halftone.base.records import Record
from halftone.loop.stop import Metric
from halftone.tune.config import TuneConfig

Status = Literal["finished", "pruned", "diverged", "failed"]


class Outcome(Record):
    """What one trial came to."""

    number: int
    """0 is the trial of the defaults."""
    folder: str
    """Of the run, within that of the study."""
    values: dict[str, str]
    """What the search chose, by setting; empty for the defaults."""
    status: Status
    """A pruned trial was stopped because others were better at the same epoch."""
    value: float | None = None
    """Of the metric on the validation images; of a pruned trial, in its last epoch."""
    epoch: int = 0
    """That the value is of."""
    num_epochs: int = 0
    """That were trained."""
    test_value: float | None = None
    """On the part of the images that was kept for the end, if there is one: it chose nothing."""
    seconds: float = 0.0
    """Of training and evaluation, start-up not included."""
    fault: str = ""
    """Why it did not finish, in one line."""


class Confirmation(Record):
    """The defaults and the best trial, trained again with fresh seeds."""

    best: int
    """Number of the trial."""
    seeds: tuple[int, ...]
    defaults: tuple[float | None, ...]
    """Values by seed; None for a run that did not finish."""
    tuned: tuple[float | None, ...]
    difference: float | None
    """Mean over the seeds of best less defaults; None if no pair finished."""
    low: float | None = None
    """The 95 % interval of the difference (Student's t over the pairs); None with fewer than two pairs."""
    high: float | None = None


class Summary(Record):
    """A study as far as it has come, as study.json holds it."""

    name: str
    folder: str
    metric: Metric
    config: TuneConfig
    space: dict[str, str]
    """As it was typed."""
    outcomes: tuple[Outcome, ...]
    best: int | None = None
    """Number of the best finished trial; it may be 0, the defaults."""
    recipe: str | None = None
    """The file that trains it again."""
    importance: dict[str, float] | None = None
    """Share of the variance of the metric that each setting explains (fANOVA, Hutter et al. 2014); None where there are
    too few finished trials."""
    confirmation: Confirmation | None = None
    sentences: tuple[str, ...] = ()
    """For people: what was found, and how far it can be trusted."""

    def outcome(self, number: int) -> Outcome | None:
        """Return what a trial came to, or None as long as it did not end."""
        return next((outcome for outcome in self.outcomes if outcome.number == number), None)


@dataclass(slots=True)
class StudyOpened:
    """The study begins, or goes on."""

    name: str
    folder: Path
    metric: Metric
    num_done: int
    total: int


@dataclass(slots=True)
class TrialStarted:
    """A run begins, or goes on where it was stopped."""

    label: str
    """Such as `trial 7` or `trial 7, seed 2`."""
    values: dict[str, str]
    resumed: bool


@dataclass(slots=True)
class TrialEpoch:
    """A run has done an epoch."""

    label: str
    epoch: int
    num_epochs: int
    value: float | None


@dataclass(slots=True)
class TrialDone:
    """A run has ended."""

    label: str
    outcome: Outcome
    is_best: bool
    """Whether it is the best trial so far."""


@dataclass(slots=True)
class Remark:
    """Something a person should know; never an error."""

    text: str


@dataclass(slots=True)
class StudyDone:
    """There is nothing left to do for this process."""

    summary: Summary


TuneEvent = StudyOpened | TrialStarted | TrialEpoch | TrialDone | Remark | StudyDone
