"""Agreement of two variants image by image: equal predictions, and McNemar's test."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import bdtr

from halftone.comparison.records import Agreement

Predicted = Sequence[tuple[int, int]]
"""Label and prediction of each validation image, in one order for all runs."""


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Return the p-value of McNemar's exact test: are both equally often the only one that is right?

    McNemar 1947; by the binomial distribution instead of chi-square, so that few images do no harm.

    Args:
        only_ours: images that only the first got right.
        only_theirs: images that only the second got right.
    """
    total = only_ours + only_theirs
    if total == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_ours, only_theirs), total, 0.5)))


def agreement(pairs: Iterable[tuple[Predicted | None, Predicted | None]]) -> Agreement | None:
    """Count over all pairs of runs where two variants agree, and test the first pair.

    Pairs without predictions, and those whose labels are not the same image by image, are left out; None if no pair is
    left.

    Args:
        pairs: predictions of the variant and of the baseline.
    """
    num_images = only_variant = only_baseline = num_same = 0
    p_value = None
    for ours, theirs in pairs:
        if not ours or not theirs or len(ours) != len(theirs):
            continue
        mine, other = np.asarray(ours), np.asarray(theirs)
        if not np.array_equal(mine[:, 0], other[:, 0]):
            continue
        right, other_right = mine[:, 0] == mine[:, 1], other[:, 0] == other[:, 1]
        won, lost = int((right & ~other_right).sum()), int((~right & other_right).sum())
        if p_value is None:
            p_value = mcnemar(won, lost)
        num_images += len(mine)
        only_variant += won
        only_baseline += lost
        num_same += int((mine[:, 1] == other[:, 1]).sum())
    if p_value is None:
        return None
    return Agreement(
        num_images=num_images,
        only_variant=only_variant,
        only_baseline=only_baseline,
        same=num_same / num_images,
        p_value=p_value,
    )
