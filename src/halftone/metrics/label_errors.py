"""Which labels are probably wrong, from what a network says of the images: confident learning (Northcutt et al. 2021).

C. Northcutt, L. Jiang, I. Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021. This is
the paper's method `C_(y~, y*)`: what lies off the diagonal of the confident joint.

The network's word must be its own: on images that it was trained on it repeats the labels that it was given, the more
the longer it was trained. Then fewer wrong labels are found.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """Images whose label is probably wrong, the least believed label first."""

    images: Numbers
    """Their numbers, [errors]."""
    suggested: Numbers
    """The class that each probably is of, [errors]."""


def find_label_errors(labels: Numbers, probabilities: npt.NDArray[np.floating[Any]]) -> LabelErrors:
    """Find the images that the network confidently takes for another class than they are labelled.

    An image counts as confidently of class j if its probability of j is at least the mean of that over all images that
    are labelled j (equation 2 of the paper); of several such classes the likeliest counts. It is named if that is not
    its label, and its label is not the likeliest class of all either.

    Args:
        labels: as given, [images].
        probabilities: of each class, [images, classes].
    """
    rows = np.arange(len(labels))
    confident = probabilities >= class_thresholds(labels, probabilities)
    among = np.where(confident, probabilities, -1.0)
    best = among.argmax(1).astype(np.int64) if len(rows) else labels
    wrong = confident[rows, best] & (best != labels) & (probabilities.argmax(1) != labels)
    found = np.flatnonzero(wrong)
    ranked = found[np.argsort(probabilities[found, labels[found]], kind="stable")]
    return LabelErrors(ranked, best[ranked])


def class_thresholds(labels: Numbers, probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return from which probability on an image is confidently of each class, [classes]; infinite for an absent one."""
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels):
        thresholds[label] = probabilities[labels == label, label].mean(dtype=np.float64)
    return thresholds
