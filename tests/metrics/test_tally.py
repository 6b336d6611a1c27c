"""Counts and the numbers read from them, with scikit-learn as the oracle."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from halftone.metrics.report import ClassMetrics, Metrics, report
from halftone.metrics.tally import NUM_BINS, Tally

CPU = torch.device("cpu")
COUNTS = ("confusion", "top5", "bin_correct")
SUMS = ("loss_sum", "bin_confidence")


def draw(count: int, classes: int, *, seed: int = 0, sure: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits [count, classes] that are often right, and labels [count] from all but the last two classes."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(max(classes - 2, 1), (count,), generator=random)
    logits = torch.randn(count, classes, generator=random)
    logits[torch.arange(count), labels] += 1.0
    return logits * sure, labels


def tallied(logits: Tensor, labels: Tensor, sizes: Sequence[int] | None = None) -> Tally:
    tally, sizes = Tally(logits.shape[1], CPU), list(sizes or [len(labels)])
    for part, wanted in zip(logits.split(sizes), labels.split(sizes), strict=True):
        tally.add(part, wanted)
    return tally


def metrics_of(logits: Tensor, labels: Tensor) -> Metrics:
    return report(tallied(logits, labels), tuple(f"class {number}" for number in range(logits.shape[1])))


@pytest.mark.parametrize("classes", [2, 3, 6, 20])
@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_scikit_learn(classes: int, count: int, seed: int) -> None:
    logits, labels = draw(count, classes, seed=seed)
    found = metrics_of(logits, labels)
    predicted, names = logits.argmax(1), range(classes)
    assert found.num_images == count
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert np.array_equal(found.confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=names))
    probabilities = logits.double().softmax(1).numpy()
    assert found.loss == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=names), rel=1e-5)
    if classes > 5:
        top5 = sklearn_metrics.top_k_accuracy_score(labels, logits.numpy(), k=5, labels=names)
        assert found.top5 == pytest.approx(top5)
    for name, score in (
        ("precision", sklearn_metrics.precision_score),
        ("recall", sklearn_metrics.recall_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        each = score(labels, predicted, labels=names, average=None, zero_division=np.nan)
        macro = score(labels, predicted, labels=names, average="macro", zero_division=np.nan)
        assert getattr(found, name) == pytest.approx(macro)
        ours = [getattr(entry, name) for entry in found.classes]
        assert ours == [None if np.isnan(value) else pytest.approx(value) for value in each]


def test_what_is_undefined_is_none_and_never_zero() -> None:
    """Class 0 is always right, 1 never found, 2 never occurs, 3 is predicted but does not occur."""
    logits = torch.eye(4)[[0, 0, 3, 0]] * 10
    found = metrics_of(logits, torch.tensor([0, 0, 1, 1]))
    assert found.classes == (
        ClassMetrics(name="class 0", support=2, predicted=3, precision=2 / 3, recall=1.0, f1=0.8),
        ClassMetrics(name="class 1", support=2, predicted=0, precision=None, recall=0.0, f1=0.0),
        ClassMetrics(name="class 2", support=0, predicted=0, precision=None, recall=None, f1=None),
        ClassMetrics(name="class 3", support=0, predicted=1, precision=0.0, recall=None, f1=0.0),
    )
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == pytest.approx(1 / 2)
    assert found.f1 == pytest.approx(0.8 / 3)


@pytest.mark.parametrize("sure", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_error_by_hand(sure: float, classes: int) -> None:
    """Guo et al. 2017, equation 3, bin by bin."""
    logits, labels = draw(500, classes, sure=sure)
    probabilities = logits.softmax(1).numpy()
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    expected = 0.0
    for low in range(NUM_BINS):
        inside = (confidence >= low / NUM_BINS) & (confidence < (low + 1) / NUM_BINS)
        if low == NUM_BINS - 1:
            inside |= confidence == 1
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].astype(float).mean())
    assert metrics_of(logits, labels).calibration_error == pytest.approx(expected, rel=1e-6)


def test_calibration_of_the_extremes() -> None:
    sure = torch.tensor([[100.0, 0.0]] * 4)
    assert metrics_of(sure, torch.tensor([0, 0, 0, 0])).calibration_error == pytest.approx(0)
    assert metrics_of(sure, torch.tensor([1, 1, 1, 1])).calibration_error == pytest.approx(1)
    assert metrics_of(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])).calibration_error == pytest.approx(0)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    classes=st.integers(2, 9),
    merge_at=st.integers(0, 8),
    seed=st.integers(0, 5),
)
def test_any_split_and_any_merge_give_the_same(sizes: list[int], classes: int, merge_at: int, seed: int) -> None:
    logits, labels = draw(sum(sizes), classes, seed=seed)
    whole, split = tallied(logits, labels), tallied(logits, labels, sizes)
    edge = sum(sizes[:merge_at])
    merged, other = tallied(logits[:edge], labels[:edge]), tallied(logits[edge:], labels[edge:])
    before = other.confusion.clone()
    merged.merge(other)
    assert torch.equal(other.confusion, before)
    for tally in (split, merged):
        for name in COUNTS:
            assert torch.equal(getattr(tally, name), getattr(whole, name)), name
        for name in SUMS:
            torch.testing.assert_close(getattr(tally, name), getattr(whole, name), rtol=1e-6, atol=1e-6)


def test_sums_of_many_batches_stay_exact() -> None:
    """A million small losses: a sum in float32 would stand still."""
    tally = Tally(2, CPU)
    logits, labels = torch.tensor([[3.0, 0.0]]).expand(10_000, 2), torch.zeros(10_000, dtype=torch.int64)
    for _ in range(100):
        tally.add(logits, labels)
    loss = float(torch.nn.functional.cross_entropy(logits[:1], labels[:1]))
    assert float(tally.loss_sum) == pytest.approx(1e6 * loss, rel=1e-7)


def test_scores_of_each_image() -> None:
    logits, labels = draw(50, 7)
    scores = Tally(7, CPU).add(logits, labels)
    probabilities = logits.softmax(1)
    assert torch.equal(scores.predicted, logits.argmax(1))
    torch.testing.assert_close(scores.confidence, probabilities.amax(1))
    torch.testing.assert_close(scores.loss, -probabilities[torch.arange(50), labels].log())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_type(dtype: torch.dtype) -> None:
    logits, labels = draw(60, 6)
    lowered = logits.to(dtype)
    assert metrics_of(lowered, labels) == metrics_of(lowered.float(), labels)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_top5_of_five_classes_or_fewer_is_one(classes: int) -> None:
    assert metrics_of(*draw(20, classes)).top5 == 1


def test_C16_nothing_evaluated() -> None:
    for tally in (Tally(3, CPU), tallied(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))):
        found = report(tally, ("a", "b", "c"))
        assert found.num_images == 0
        assert found.model_dump(exclude={"num_images", "views", "classes", "confusion"}) == dict.fromkeys(
            ("loss", "accuracy", "top5", "precision", "recall", "f1", "calibration_error")
        )
        assert all((entry.precision, entry.recall, entry.f1) == (None, None, None) for entry in found.classes)
        assert found.confusion == ((0, 0, 0),) * 3


@pytest.mark.parametrize("label", [0, 1])
def test_C16_one_image(label: int) -> None:
    found = metrics_of(torch.tensor([[2.0, 0.0]]), torch.tensor([label]))
    right = label == 0
    assert (found.num_images, found.accuracy) == (1, float(right))
    assert found.recall == float(right)
    assert found.f1 == float(right)


def test_C16_none_correct() -> None:
    found = metrics_of(torch.eye(3)[[1, 2, 0]], torch.tensor([0, 1, 2]))
    assert (found.accuracy, found.precision, found.recall, found.f1) == (0, 0, 0, 0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("everywhere", [True, False])
def test_C16_logits_that_are_not_finite(poison: float, everywhere: bool) -> None:
    """The loss becomes undefined, never a number; the counts stay whole."""
    logits, labels = draw(40, 7)
    logits[slice(None) if everywhere else slice(3, 5)] = poison
    found = metrics_of(logits, labels)
    assert (found.loss, found.calibration_error) == (None, None)
    assert found.num_images == 40 == np.sum(found.confusion)
    assert found.accuracy is not None
    assert 0 <= found.accuracy <= 1


def test_metrics_make_the_round_trip_through_json() -> None:
    found = metrics_of(*draw(30, 6))
    assert Metrics.model_validate_json(found.model_dump_json()) == found
