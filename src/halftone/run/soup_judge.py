"""Judging weights that a run did not reach by training: its network, its images, and statistics measured anew."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from halftone.base.errors import ModelFileError
from halftone.base.records import decided
from halftone.data.labelled import Labelled
from halftone.data.order import epoch_order
from halftone.data.split import hold_out
from halftone.loop.evaluate import Evaluation, EvaluationSet, conclude, evaluate
from halftone.run.folder import RunFolder
from halftone.run.inference import other_images, place_of
from halftone.run.model_file import ModelCard, network_of, put_weights, unjudged_card
from halftone.run.plan.data import check_same_data, open_data
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import Plan
from halftone.run.session import evaluation_set
from halftone.run.weight_files import WeightFile, open_weights, run_of
from halftone.system.threads import usable_cores
from halftone.weights.match import without_prefix
from halftone.weights.soup import Weights, refuse_other_tensors
from halftone.weights.statistics import measure_statistics, tracked_norms

MEASURED = 2048
"""Training images that the statistics of batch normalisation are measured on, at most."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One file, evaluated by itself."""

    evaluation: Evaluation
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Judge:
    """A run's network and images, to judge weights by; a share of the images may be kept from every choice."""

    plan: Plan
    card: ModelCard
    module: nn.Module
    train: EvaluationSet
    """Training images, as evaluation sees them."""
    images: EvaluationSet
    """Those that are judged on."""
    labels: npt.NDArray[np.int64]
    """Of the images that are judged on, [images]."""
    held: npt.NDArray[np.bool_]
    """Which of them are kept from the choice, [images]."""
    moving: set[str] = field(default_factory=set)
    """Batch normalisations whose statistics differ from file to file; those of frozen layers do not."""

    @classmethod
    def of_run(
        cls,
        folder: RunFolder,
        *,
        data: str | None,
        root: Path | None,
        holdout: float,
        split_seed: int,
        device: str,
        model: nn.Module | str | None,
    ) -> "Judge":
        """Open the images of a run and build its network; see `average_files` for the arguments."""
        plan = folder.read_plan()
        recipe = plan.settled
        place = place_of(recipe, device)
        opened = open_data(recipe.data, None, Notebook(), workers=usable_cores())
        check_same_data(plan.data, opened.facts, hint="bring it back as it was")
        images: Labelled = opened.validation
        if data is not None:
            _, images = other_images(recipe, data, root, False, plan.data.classes)
        held = np.zeros(len(images.labels), dtype=bool)
        if holdout:
            timeout = recipe.data.timeout
            kept = hold_out(images, holdout, seed=split_seed, workers=usable_cores(), timeout=timeout)[1]
            held[kept.indices] = True
        card = unjudged_card(plan)
        return cls(
            plan=plan,
            card=card,
            module=network_of(card, model).to(place),
            train=evaluation_set(plan, opened.train, place, keep=False),
            images=evaluation_set(plan, images, place, keep=plan.keep_validation),
            labels=images.labels,
            held=held,
        )

    def judge_each(self, paths: list[Path]) -> list[Alone]:
        """Evaluate each file alone, and note which statistics differ between them.

        Raises:
            ModelFileError: a file is damaged, or of another network.
        """
        first: Weights = {}
        found = []
        for path in paths:
            opened = self.open(path)
            tensors = opened.tensors
            first = first or tensors
            for name, _ in tracked_norms(self.module):
                places = (f"{name}.running_mean", f"{name}.running_var")
                if not all(torch.equal(first[place], tensors[place]) for place in places):
                    self.moving.add(name)
            found.append(Alone(self.evaluate(tensors, origin=str(path)), opened.epoch, opened.step))
        return found

    def open(self, path: Path) -> WeightFile:
        """Read a file whose weights are those of the network.

        Raises:
            ModelFileError: they are not.
        """
        opened = open_weights(path)
        card, folder = opened.card, run_of(opened.path)
        if card is None and folder is not None:
            card = unjudged_card(folder.read_plan())
        refuse_other_card(path, card, self.card)
        own = self.module.state_dict()
        tensors = without_prefix(opened.tensors, own)
        refuse_other_tensors(own, tensors)
        return WeightFile(path, tensors, opened.kind, card, opened.epoch, opened.step)

    def evaluate(self, weights: Weights, *, origin: str = "the average") -> Evaluation:
        """Evaluate weights on all images that are judged on.

        Raises:
            ModelFileError: a weight is not finite.
        """
        put_weights(self.module, weights, origin=origin, network=self.card.name)
        return conclude(evaluate(self.module, self.images))

    def accuracy(self, evaluation: Evaluation, *, held: bool) -> float:
        """Return the share of correct answers on the images that were chosen on, or on those kept from the choice."""
        places = evaluation.indices
        correct = evaluation.predicted == self.labels[places]
        wanted = self.held[places] == held
        return float(correct[wanted].sum()) / max(1, int(wanted.sum()))

    def with_statistics(self, weights: Weights) -> Weights:
        """Return averaged weights with statistics that belong to them, measured on training images."""
        if not self.moving:
            return weights
        put_weights(self.module, weights, origin="the average", network=self.card.name)
        measure_statistics(self.module, self._batches(), layers=self.moving)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.module.state_dict().items()}

    def _batches(self) -> Iterator[Tensor]:
        """Yield the same training images each time, in whole batches, since each counts the same."""
        data, size = self.train, self._batch_size
        order = epoch_order(data.num_images, seed=0, epoch=0)[: self.num_measured]
        with data.compute():
            for batch in data.feed.batches(order, size):
                if len(batch.labels) > 1:  # one image has no deviation
                    yield data.prepare(batch.images)

    @property
    def _batch_size(self) -> int:
        return min(decided(self.plan.settled.batch_size), self.train.num_images)

    @property
    def num_measured(self) -> int:
        """Training images that statistics are measured on."""
        return max(1, min(MEASURED, self.train.num_images) // self._batch_size) * self._batch_size


def refuse_other_card(path: Path, card: ModelCard | None, wanted: ModelCard) -> None:
    """Refuse weights that were trained for other classes or pictures; of a file without a card nothing is known.

    Raises:
        ModelFileError: they were.
    """
    if card is not None and (card.classes != wanted.classes or card.input != wanted.input):
        raise ModelFileError(
            f"{path} cannot be averaged with the others: its classes or its input differ",
            hint="name files of one run, or of runs on the same data",
        )
