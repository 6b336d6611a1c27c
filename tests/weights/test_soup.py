"""Averages of weights: closed forms, and a greedy soup that is never worse than its best ingredient."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor, nn

from halftone.base.errors import ModelFileError
from halftone.weights.soup import RunningMean, exponential, greedy, uniform


def weights(value: float, count: int = 0) -> dict[str, Tensor]:
    return {"w": torch.full((2, 2), value), "n": torch.tensor(count)}


def test_the_mean_is_that_of_torch() -> None:
    networks = [nn.BatchNorm1d(3) for _ in range(3)]
    for number, network in enumerate(networks):
        nn.init.normal_(network.weight)
        network.num_batches_tracked.fill_(number)
    average = torch.optim.swa_utils.AveragedModel(networks[0], use_buffers=True)
    for network in networks:
        average.update_parameters(network)
    found = uniform(network.state_dict() for network in networks)
    torch.testing.assert_close(found["weight"], average.module.weight.detach())
    assert int(found["num_batches_tracked"]) == 2


def test_sums_are_wide() -> None:
    halves = [{"w": torch.tensor([2048.0], dtype=torch.float16)}, *[{"w": torch.ones(1, dtype=torch.float16)}] * 2]
    assert float(uniform(halves)["w"]) == pytest.approx(2050 / 3, rel=1e-3)
    assert uniform(halves)["w"].dtype == torch.float16


@given(some.lists(some.floats(-10, 10), min_size=1, max_size=6), some.floats(0, 0.99))
def test_a_moving_average_is_its_recurrence(values: list[float], decay: float) -> None:
    found = exponential((weights(value, n) for n, value in enumerate(values)), decay)
    expected = float(torch.tensor(values[0]))
    for value in values[1:]:
        expected = decay * expected + (1 - decay) * float(torch.tensor(value))
    assert float(found["w"][0, 0]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert int(found["n"]) == len(values) - 1


def test_no_decay_is_the_last_one() -> None:
    assert torch.equal(exponential([weights(1.0), weights(0.3)], 0.0)["w"], weights(0.3)["w"])


def test_one_alone_is_itself_to_the_bit() -> None:
    alone = {"w": torch.tensor([0.1, float("nan")])}
    mean = RunningMean()
    mean.add(alone)
    assert mean.mean()["w"] is alone["w"]


@pytest.mark.parametrize(
    "other", [{"w": torch.ones(2, 2)}, {**weights(1), "x": torch.ones(1)}, {**weights(1), "w": torch.ones(3)}]
)
@pytest.mark.parametrize("mix", [uniform, lambda files: exponential(files, 0.5)])
def test_weights_of_other_networks_are_refused(mix: Any, other: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFileError, match=r"weights of different networks cannot be averaged: [nwx] is"):
        mix([weights(1), other])


def test_a_greedy_soup_by_hand() -> None:
    """The score is nearness to 2: the best is 1.5; with 3 it is 2.25, no worse; with -5 it is worse."""
    values = [3.0, -5.0, 1.5]
    judged: list[float] = []

    def judge(candidate: Any) -> float:
        judged.append(float(candidate["w"][0, 0]))
        return -abs(judged[-1] - 2)

    soup, tried = greedy(lambda place: weights(values[place]), [-abs(value - 2) for value in values], judge)
    assert judged == pytest.approx([2.25, (1.5 + 3 - 5) / 3], rel=1e-6)
    assert [(one.index, one.added) for one in tried] == [(2, True), (0, True), (1, False)]
    assert float(soup["w"][0, 0]) == 2.25


def test_what_is_no_worse_is_added() -> None:
    _, tried = greedy(weights, [1.0, 1.0, 1.0], lambda candidate: 1.0)
    assert [(one.index, one.added) for one in tried] == [(0, True), (1, True), (2, True)]


def test_a_soup_of_one_is_not_finished() -> None:
    """The best single file has statistics of its own; only averages are given new ones."""
    soup, _ = greedy(weights, [1.0, 0.5], lambda _: 0.0, finish=lambda _: {"finished": torch.ones(1)})
    assert torch.equal(soup["w"], weights(0)["w"])


@given(some.lists(some.tuples(some.floats(-5, 5), some.floats(-5, 5)), min_size=1, max_size=7))
def test_a_greedy_soup_is_never_worse_than_the_best(places: list[tuple[float, float]]) -> None:
    files = [{"w": torch.tensor(place, dtype=torch.float64)} for place in places]

    def judge(candidate: Any) -> float:
        x, y = candidate["w"].tolist()
        return -((x - 1) ** 2) + 3 * y - y**2 + x * y

    scores = [judge(one) for one in files]
    soup, tried = greedy(files.__getitem__, scores, judge)
    assert judge(soup) >= max(scores)
    assert sorted(one.index for one in tried) == list(range(len(files)))
    torch.testing.assert_close(soup["w"], torch.stack([files[one.index]["w"] for one in tried if one.added]).mean(0))
