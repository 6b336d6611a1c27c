"""Signals of a warmup in the log of a run: each a small pure function of columns of steps.csv or results.csv.

Positions are those of rows, from 0. A number that is absent or not finite is NaN, but a loss that is not finite is
infinite.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from halftone.report.history import Column

Floats = npt.NDArray[np.float64]

_WINDOW = 9
"""Steps before a step with whose median its loss is compared."""
_LEAST_Z = 6.0
"""Robust standard deviations above the median from which on a loss is a spike."""
_LEAST_HEIGHT = 1.15
"""And by which factor it must be above the median: a smooth loss has a small deviation."""
_LEAST_NOISE = 0.02
"""Of the log loss; a deviation below this is taken for this."""
_GATHERING = 5
"""Steps until momentum has come to something."""
_LEARNED = 0.95
"""Share of the first loss below which the network has begun to learn."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The columns of steps.csv, each [steps]."""

    loss: Floats
    rate: Floats
    grad_norm: Floats
    update_ratio: Floats
    """Norm of the update over the norm of the weights, where it was measured."""
    skipped: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, columns: dict[str, Column]) -> "Steps":
        """Read columns; those that a run does not have are NaN."""
        absent: Column = [None] * len(columns["loss"])
        loss, rate, norm, ratio, skipped = (
            _floats(columns.get(name, absent)) for name in ("loss", "lr", "grad_norm", "update_ratio", "skipped")
        )
        return cls(
            loss=np.where(np.isfinite(loss), loss, np.inf),
            rate=rate,
            grad_norm=np.where(np.isfinite(norm), norm, np.nan),
            update_ratio=np.where(np.isfinite(ratio), ratio, np.nan),
            skipped=np.nan_to_num(skipped) > 0,
        )

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def peak_rate(self) -> float:
        """The highest rate."""
        return float(np.nanmax(self.rate))

    @property
    def peak_step(self) -> int:
        """The first step at 99 % or more of the highest rate."""
        return int(np.argmax(self.rate >= 0.99 * self.peak_rate))


def _floats(column: Column) -> Floats:
    return np.array([np.nan if value is None else value for value in column], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Spike:
    """A jump of the loss, until it is back where it was."""

    start: int
    end: int | None
    """The first step at which the loss is back; None if it never is."""
    height: float
    """The highest loss as a multiple of the median before the jump."""
    z: float
    """Robust standard deviations of the log loss above that median, at the start."""

    def lost(self, num_steps: int) -> int:
        """Return the steps that it took."""
        return (num_steps if self.end is None else self.end) - self.start


def spikes(loss: Floats) -> list[Spike]:
    """Find where the loss jumps: a robust z-score of its logarithm against the running median of the steps before.

    The deviation is 1.4826 times the median absolute difference between neighbours, over the square root of two, which
    neither a falling loss nor the spikes themselves inflate.
    """
    logs = _logs(loss)
    steps = np.abs(np.diff(logs[np.isfinite(loss)]))
    noise = max(1.4826 * float(np.median(steps)) / 2**0.5 if len(steps) else 0.0, _LEAST_NOISE)
    found, step = [], 1
    while step < len(logs):
        level = float(np.median(logs[max(0, step - _WINDOW) : step]))
        above = float(logs[step]) - level
        if above > max(_LEAST_Z * noise, np.log(_LEAST_HEIGHT)):
            end = _back(logs, step, level)
            height = float(np.exp(np.max(logs[step:end]) - level))
            found.append(Spike(start=step, end=end, height=height, z=above / noise))
            step = len(logs) if end is None else end
        step += 1
    return found


def _logs(loss: Floats) -> Floats:
    """Return logarithms that are finite, also of a loss that is not."""
    return np.log(np.clip(loss, 1e-12, 1e300))


def _back(logs: Floats, start: int, level: float) -> int | None:
    """Return the first step from which on the median of three is at the level again."""
    for step in range(start + 1, len(logs)):
        if np.median(logs[step : step + 3]) <= level:
            return step
    return None


def steps_to_learn(loss: Floats) -> int | None:
    """Return the step from which on the median of five losses stays 5 % below the first one; None if it never does."""
    medians = np.array([np.median(loss[step : step + 5]) for step in range(max(1, len(loss) - 4))])
    above = np.flatnonzero(medians >= _LEARNED * loss[0])
    start = int(above[-1]) + 1 if len(above) else 0
    return start if start < len(medians) else None


def at_peak(values: Floats, peak: int) -> float | None:
    """Return the median of a column over the first steps at the peak: 5 % of the run, and at least 12."""
    return _median(values[peak : peak + max(12, len(values) // 20)])


def at_full_rate(steps: Steps, warmup: int) -> float | None:
    """Return what an update within the warmup would have come to at the peak rate, as a share of the weights' norm.

    It is the median, without the first steps, in which momentum has still to gather.
    """
    part = slice(_GATHERING, warmup)
    return _median(steps.update_ratio[part] * steps.peak_rate / np.maximum(steps.rate[part], np.finfo(float).tiny))


def norm_change(grad_norm: Floats, peak: int) -> float | None:
    """Return the gradient norm at the peak as a multiple of that of the first five steps.

    Without a warmup, the peak is the sixth step.
    """
    before, after = _median(grad_norm[:5]), at_peak(grad_norm, max(peak, 5))
    return after / before if before and after is not None else None


def _median(values: Floats) -> float | None:
    present = values[~np.isnan(values)]
    return float(np.median(present)) if len(present) else None


def fall_below(loss: Floats, rate: Floats, share: float) -> tuple[float, float]:
    """Return how much of the run came before the rate first reached a share of its peak, and what was learned then.

    Returns:
        The share of the steps, and the share of the loss's whole fall that they brought, in [0, 1].
    """
    reached = int(np.argmax(rate >= share * np.max(rate)))
    smooth = [float(np.median(loss[max(0, step - 2) : step + 3])) for step in (0, reached, len(loss) - 1)]
    fall = smooth[0] - smooth[2]
    learned = (smooth[0] - smooth[1]) / fall if fall > 0 and np.isfinite(fall) else 0.0
    return reached / len(loss), min(max(learned, 0.0), 1.0)


def slow_start(loss: Floats, peak: int) -> tuple[int, float]:
    """Return how long the loss fell slowly in the beginning, compared to its fastest fall later.

    Speeds are those of the log loss, between medians over a twentieth of the run.

    Returns:
        The steps before the loss first falls at a third of its highest speed, no more than the warmup; and how many
        times faster it fell at its fastest than in those steps.
    """
    width = max(3, len(loss) // 20)
    starts = np.arange(0, len(loss) - width + 1, width)
    speeds = -np.diff([np.median(_logs(loss[start : start + width])) for start in starts])
    if len(speeds) < 3 or speeds.max() <= 0:
        return 0, 1.0
    first = int(np.argmax(speeds > speeds.max() / 3))
    slow = min(first * width, peak)
    mean = float(np.mean(speeds[:first])) if first else float(speeds.max())
    return slow, float(speeds.max()) / max(mean, float(speeds.max()) / 100)


def rising_together(val_loss: Column, val_accuracy: Column, upto: int) -> int:
    """Count the epochs up to `upto` in which the validation accuracy rose and the validation loss did, too."""
    pairs = list(zip(val_loss, val_accuracy, strict=True))[:upto]
    count = 0
    for (loss, accuracy), (next_loss, next_accuracy) in pairwise(pairs):
        if None not in (loss, accuracy, next_loss, next_accuracy):
            count += next_loss > loss and next_accuracy > accuracy  # type: ignore[operator]
    return count
