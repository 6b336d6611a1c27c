"""Which epoch is the best, and when to give up."""

import json
import math

import pytest

from halftone.loop.stop import Best, Metric
from halftone.metrics.report import Metrics


def metrics(accuracy: float | None = None, loss: float | None = 1.0, f1: float | None = None) -> Metrics:
    # not validated: a number that is not finite must do no harm even if one slips in
    return Metrics.model_construct(accuracy=accuracy, loss=loss, f1=f1)


def best_epochs(best: Best, epochs: list[Metrics]) -> list[int]:
    return [number for number, epoch in enumerate(epochs, start=1) if best.observe(epoch, number)]


@pytest.mark.parametrize(
    ("metric", "epochs", "improved"),
    [
        ("accuracy", [metrics(0.5), metrics(0.7), metrics(0.6), metrics(0.8)], [1, 2, 4]),
        ("f1", [metrics(0.9, f1=0.5), metrics(0.1, f1=0.7), metrics(0.99, f1=0.6)], [1, 2]),
        ("loss", [metrics(0.9, 2.0), metrics(0.1, 1.5), metrics(0.99, 1.7), metrics(0.2, 0.0)], [1, 2, 4]),
        ("accuracy", [metrics(0.0)], [1]),
    ],
)
def test_the_best_by_each_metric(metric: Metric, epochs: list[Metrics], improved: list[int]) -> None:
    best = Best(metric)
    assert best_epochs(best, epochs) == improved
    assert best.epoch == improved[-1]


def test_the_loss_decides_between_equal_scores() -> None:
    best = Best("accuracy")
    epochs = [metrics(0.5, 1.0), metrics(0.5, 1.0), metrics(0.5, 0.9), metrics(0.5, 0.95), metrics(0.6, 5.0)]
    assert best_epochs(best, epochs) == [1, 3, 5]
    assert (best.value, best.loss) == (0.6, 5.0)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "f1"])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_C15_what_is_not_a_number_is_never_best_and_blocks_no_later_best(metric: Metric, bad: float | None) -> None:
    best = Best(metric)
    good, better = metrics(0.5, 1.0, 0.5), metrics(0.6, 0.9, 0.6)
    wrong_score = metrics(bad if metric == "accuracy" else 0.99, bad, bad if metric == "f1" else 0.99)
    wrong_loss = metrics(0.99, bad, 0.99)
    epochs = [wrong_score, wrong_loss, good, wrong_score, wrong_loss, better, wrong_loss]
    assert best_epochs(best, epochs) == [3, 6]
    assert best.waited == 1


@pytest.mark.parametrize(("patience", "stops_at"), [(0, 3), (1, 3), (2, 4), (3, 5), (6, 8), (None, None)])
def test_stops_after_as_many_epochs_as_patience_says(patience: int | None, stops_at: int | None) -> None:
    best, stops = Best("accuracy", patience), []
    for number, accuracy in enumerate([0.1, 0.5] + [0.4] * 6, start=1):
        best.observe(metrics(accuracy), number)
        stops += [number] if best.exhausted else []
    assert (stops or [None])[0] == stops_at


def test_a_better_epoch_renews_patience() -> None:
    best = Best("accuracy", 2)
    for number, accuracy in enumerate([0.5, 0.4, 0.6, 0.4, 0.7, 0.4], start=1):
        best.observe(metrics(accuracy), number)
        assert not best.exhausted


@pytest.mark.parametrize("seen", [[], [metrics(None, None)], [metrics(0.5), metrics(0.4)], [metrics(0.0, 0.0)]])
def test_state_makes_the_round_trip_through_json(seen: list[Metrics]) -> None:
    first, second = Best("accuracy", 3), Best("accuracy", 3)
    best_epochs(first, seen)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert second == first
