"""The average of several weight files as one: uniform, exponential, or a greedy soup."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halftone.base.errors import ModelFileError

Weights = Mapping[str, Tensor]


class RunningMean:
    """The mean of weights that come one by one; sums are in fp64, whole numbers are those of the last."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.num = 0
        self._sums: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}

    def add(self, weights: Weights) -> None:
        """Add one more.

        Raises:
            ModelFileError: it has other tensors than those before, or of other shapes.
        """
        if self._last:
            refuse_other_tensors(self._last, weights)
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                wide = tensor.detach().double()
                self._sums[name] = self._sums[name] + wide if self.num else wide
        self._last = dict(weights)
        self.num += 1

    def mean(self, and_also: Weights | None = None) -> dict[str, Tensor]:
        """Return the mean, in the types of the last; of one alone, that one to the bit.

        Args:
            and_also: one more, which is not kept.
        """
        if and_also is not None:
            refuse_other_tensors(self._last, and_also)
        elif self.num == 1:
            return dict(self._last)
        last, number = and_also or self._last, self.num + (and_also is not None)
        found = dict(last)
        for name, sums in self._sums.items():
            total = sums if and_also is None else sums + and_also[name].double()
            found[name] = (total / number).to(last[name].dtype)
        return found


def refuse_other_tensors(one: Weights, other: Weights) -> None:
    """Refuse to average weights of different networks.

    Raises:
        ModelFileError: naming the first tensor that differs.
    """
    for name in (*one, *other):
        if name not in one or name not in other or one[name].shape != other[name].shape:
            shown = " and ".join(str(list(side[name].shape)) if name in side else "absent" for side in (one, other))
            raise ModelFileError(
                f"weights of different networks cannot be averaged: {name} is {shown}",
                hint="name weights of one network, best of one run: `halftone weights diff` shows how two differ",
            )


def uniform(files: Iterable[Weights]) -> dict[str, Tensor]:
    """Return the mean of all."""
    mean = RunningMean()
    for weights in files:
        mean.add(weights)
    return mean.mean()


def exponential(files: Iterable[Weights], decay: float) -> dict[str, Tensor]:
    """Return the exponential moving average over files in their order: avg = decay avg + (1 - decay) next.

    It starts from the first file, and is summed in fp64.

    Raises:
        ModelFileError: they are of different networks.
    """
    average: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for weights in files:
        if last:
            refuse_other_tensors(last, weights)
        last = dict(weights)
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                wide = tensor.detach().double()
                average[name] = torch.lerp(average[name], wide, 1 - decay) if name in average else wide
    return {name: average[name].to(tensor.dtype) if name in average else tensor for name, tensor in last.items()}


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one file in an average."""

    index: int
    """Its place among the files."""
    added: bool
    score: float | None
    """Greedy: of the soup with it."""


def greedy(
    load: Callable[[int], Weights],
    scores: Sequence[float],
    judge: Callable[[Weights], float],
    *,
    finish: Callable[[Weights], Weights] = dict,
) -> tuple[Weights, tuple[Tried, ...]]:
    """Add the files to the mean one by one, the best first, and keep each that makes it no worse.

    This is algorithm 1 of Wortsman et al. 2022, "Model soups". The first is the best single file, as it is; so what
    comes out is never worse than that, by the same scores.

    Args:
        load: the weights of a file, by its place.
        scores: of each file alone, greater is better; equal ones keep their order.
        judge: the score of an average, by the same measure.
        finish: what is done to an average of two or more before it is judged.

    Returns:
        The average, finished, and what became of each file in the order in which they were tried.
    """
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    best, soup, mean = scores[order[0]], load(order[0]), RunningMean()
    mean.add(soup)
    tried = [Tried(order[0], added=True, score=best)]
    for place in order[1:]:
        weights = load(place)
        candidate = finish(mean.mean(weights))
        score = judge(candidate)
        added = score >= best
        if added:
            mean.add(weights)
            best, soup = score, candidate
        tried.append(Tried(place, added, score))
    return soup, tuple(tried)
