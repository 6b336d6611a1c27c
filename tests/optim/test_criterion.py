"""The training loss against torch's own and against scikit-learn's weights."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from halftone.optim.config import LossConfig
from halftone.optim.loss import Criterion, balanced_weights, main_output

CLASSES = 5
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25, 1.5])


def criterion(smoothing: float = 0.0, *, weights: Tensor | None = None, auxiliary: float = 0.0) -> Criterion:
    return Criterion(LossConfig(label_smoothing=smoothing), class_weights=weights, auxiliary=auxiliary)


def batch(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, class numbers, and probabilities as they come from mixing two labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=random)
    mixed = 0.3 * F.one_hot(labels, CLASSES) + 0.7 * F.one_hot(labels.flip(0), CLASSES)
    return 3 * torch.randn(count, CLASSES, generator=random), labels, mixed


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("soft", [False, True])
def test_without_weights_it_is_cross_entropy(smoothing: float, soft: bool) -> None:
    logits, labels, mixed = batch()
    targets = mixed if soft else labels
    assert torch.equal(
        criterion(smoothing)(logits, targets), F.cross_entropy(logits, targets, label_smoothing=smoothing)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_class_weights_are_those_of_cross_entropy(smoothing: float, soft: bool) -> None:
    """Divided by the number of images. For soft targets torch does so itself; for labels by the sum of weights."""
    logits, labels, mixed = batch()
    targets = mixed if soft else labels
    each = F.cross_entropy(logits, targets, weight=WEIGHTS, label_smoothing=smoothing, reduction="none")
    loss = criterion(smoothing, weights=WEIGHTS)(logits, targets)
    torch.testing.assert_close(loss, each.mean())
    theirs = F.cross_entropy(logits, targets, weight=WEIGHTS, label_smoothing=smoothing)
    torch.testing.assert_close(loss, theirs if soft else theirs * WEIGHTS[labels].sum() / len(labels))


def test_smoothing_by_hand() -> None:
    """Szegedy et al. 2016, section 7: (1 - e) of the label and e spread evenly."""
    logits, labels, _ = batch()
    spread = 0.8 * F.one_hot(labels, CLASSES) + 0.2 / CLASSES
    expected = -(spread * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(criterion(0.2)(logits, labels), expected)


def test_auxiliary_outputs_count_by_their_weight() -> None:
    logits, labels, _ = batch()
    others = [batch(seed=1)[0], batch(seed=2)[0]]
    loss = criterion(0.1, auxiliary=0.3)
    expected = loss(logits, labels) + 0.3 * (loss(others[0], labels) + loss(others[1], labels))
    torch.testing.assert_close(loss((logits, *others), labels), expected)
    assert torch.equal(loss((logits, None, None), labels), loss(logits, labels))


def test_the_main_output_is_the_first() -> None:
    logits, other = torch.ones(2, 3), torch.zeros(2, 3)
    assert main_output(logits) is logits
    assert main_output((logits, other)) is logits


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@given(cuts=st.lists(st.integers(1, 11), max_size=4, unique=True))
def test_parts_of_a_batch_add_up_to_the_whole(soft: bool, weights: Tensor | None, cuts: list[int]) -> None:
    logits, labels, mixed = (tensor.double() for tensor in batch())
    targets = mixed if soft else labels.long()
    loss = criterion(0.1, weights=None if weights is None else weights.double())
    edges = [0, *sorted(cuts), 12]
    parts = [slice(first, last) for first, last in pairwise(edges)]
    total = sum(loss(logits[part], targets[part]) * (part.stop - part.start) / 12 for part in parts)
    torch.testing.assert_close(total, loss(logits, targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_loss_is_in_float32(dtype: torch.dtype) -> None:
    logits, labels, _ = batch()
    with torch.autocast("cpu", dtype):
        loss = criterion(0.1, weights=WEIGHTS)(logits.to(dtype), labels)
    assert loss.dtype == torch.float32


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    weights = balanced_weights(torch.tensor(labels), 8)
    present = np.unique(labels)
    theirs = compute_class_weight("balanced", classes=present, y=np.asarray(labels))
    np.testing.assert_allclose(weights[present].numpy(), theirs, rtol=1e-6)
    absent = np.setdiff1d(np.arange(8), present)
    assert not weights[absent].any()
    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-5)


def test_C14_classes_without_images_get_no_weight_and_no_infinity() -> None:
    assert balanced_weights(torch.tensor([1, 1, 3]), 5).tolist() == [0.0, 0.75, 0.0, 1.5, 0.0]
    assert balanced_weights(torch.empty(0, dtype=torch.int64), 2).tolist() == [0.0, 0.0]
