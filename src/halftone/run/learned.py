"""What a run has learned: its epochs, training images to compare with, and the verdict at its end."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from halftone.base.errors import ModelFileError, RecipeError
from halftone.base.files import read_json
from halftone.base.seeds import stream
from halftone.base.tables import read_table
from halftone.data.labelled import Labels
from halftone.loop.events import EpochDone
from halftone.metrics.report import Metrics
from halftone.metrics.verdict import EpochLosses, Verdict, judge
from halftone.run.folder import RunFolder


@dataclass(slots=True)
class Learned:
    """What the epochs of a run have shown, in all of its processes."""

    losses: list[EpochLosses] = field(default_factory=list)
    """Of the epochs that have both."""
    best: Metrics | None = None
    """Of the best epoch."""

    def recall(self, folder: RunFolder, *, epoch: int, best: int) -> None:
        """Read in a run's tables what its epochs up to `epoch` have shown, of which `best` was the best.

        Without tables, as when nobody wrote them, nothing is known of those epochs.

        Raises:
            ModelFileError: a table holds something else.
        """
        try:
            if folder.results.is_file():
                rows = (row for row in read_table(folder.results) if int(row["epoch"]) <= epoch)
                pairs = [(row["train_loss"], row["val_loss"]) for row in rows]
                self.losses = [EpochLosses(float(ours), float(theirs)) for ours, theirs in pairs if ours and theirs]
            if folder.classification_report.is_file():
                values = read_json(folder.classification_report)
                if values.pop("epoch", 0) == best:
                    self.best = Metrics.parse(values, source=folder.classification_report.name)
        except (KeyError, ValueError, RecipeError) as error:
            raise ModelFileError(f"the tables in {folder.path} are damaged: {error}", hint="move them away") from error

    def hear(self, done: EpochDone) -> None:
        """Take an epoch."""
        found = done.evaluation.metrics
        if done.train_loss is not None and found.loss is not None:
            self.losses.append(EpochLosses(done.train_loss, found.loss))
        if done.improved:
            self.best = found

    def verdict(self, training: Metrics | None) -> Verdict:
        """Judge the run by these epochs and the metrics on training images."""
        return judge(training, self.best, self.losses)


def fit_sample(train: Labels, validation: Labels, most: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Draw training images to compare with the validation images.

    Each class is drawn as often as it occurs in validation, or as far as it goes, so that both accuracies mean the
    same; where there are more than `most` validation images, each class gives its share, and at least one.

    Args:
        train: the labels [training images].
        validation: the labels [validation images].
        most: images to draw in all, about.
        seed: of the run.

    Returns:
        Positions among the training images [drawn], in order.
    """
    random = stream(seed, "fit")
    share = min(1.0, most / max(len(validation), 1))
    drawn = [np.empty(0, dtype=np.int64)]
    for label, count in zip(*np.unique(validation, return_counts=True), strict=True):
        members = np.flatnonzero(train == label)
        wanted = min(len(members), max(1, round(share * count)))
        drawn.append(random.choice(members, wanted, replace=False))
    return np.sort(np.concatenate(drawn))
