"""From counts to the numbers that people read."""

import numpy as np
import numpy.typing as npt

from halftone.base.records import Record
from halftone.metrics.tally import Tally

Floats = npt.NDArray[np.float64]


class ClassMetrics(Record):
    """How one class fares. A number that is undefined (no image, no prediction) is None, never zero."""

    name: str
    support: int
    """Images of this class."""
    predicted: int
    """Images that were taken for this class."""
    precision: float | None
    """Of those taken for this class, the share that is."""
    recall: float | None
    """Of those of this class, the share that was found."""
    f1: float | None
    """The harmonic mean of both."""


class Metrics(Record):
    """An evaluation. Shares are in [0, 1]; the means over classes leave undefined ones out."""

    num_images: int
    views: int = 1
    """How often each image was looked at; the mean of the logits counts."""
    loss: float | None
    """Mean cross-entropy in nats, without label smoothing."""
    accuracy: float | None
    top5: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    calibration_error: float | None
    """Mean gap between confidence and accuracy over 15 bins of confidence (Guo et al. 2017, equation 3)."""
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """[true class][predicted class]."""


def report(tally: Tally, classes: tuple[str, ...], *, views: int = 1) -> Metrics:
    """Read a tally; here, and not before, the device is waited for."""
    confusion = tally.confusion.cpu().numpy()
    total = int(confusion.sum())
    hits = np.diag(confusion).astype(float)
    support, predicted = confusion.sum(1), confusion.sum(0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    # defined wherever the class occurs at all, among the labels or the predictions
    f1 = _ratio(2 * hits, support + predicted)
    loss = float(tally.loss_sum) / total if total else None
    return Metrics(
        num_images=total,
        views=views,
        loss=loss if loss is not None and np.isfinite(loss) else None,
        accuracy=float(hits.sum()) / total if total else None,
        top5=int(tally.top5) / total if total else None,
        precision=_mean(precision),
        recall=_mean(recall),
        f1=_mean(f1),
        calibration_error=_calibration_error(tally, total),
        classes=tuple(
            ClassMetrics(
                name=name,
                support=int(support[row]),
                predicted=int(predicted[row]),
                precision=_optional(precision[row]),
                recall=_optional(recall[row]),
                f1=_optional(f1[row]),
            )
            for row, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )


def _ratio(above: Floats, below: npt.NDArray[np.int64]) -> Floats:
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _mean(values: Floats) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _optional(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _calibration_error(tally: Tally, total: int) -> float | None:
    if not total:
        return None
    gaps = (tally.bin_correct.double().cpu() - tally.bin_confidence.double().cpu()).abs()
    error = float(gaps.sum()) / total
    return error if np.isfinite(error) else None
