"""Confident learning against the authors' own library, and by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from halftone.metrics.label_errors import class_thresholds, find_label_errors


def drawn(seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels of which a fifth are drawn anew, and what a middling network says."""
    random = np.random.default_rng(seed)
    num_classes, count = int(random.integers(2, 8)), int(random.integers(30, 300))
    labels = np.concatenate([np.arange(num_classes), random.integers(0, num_classes, count - num_classes)])
    true = np.where(random.random(count) < 0.8, labels, random.integers(0, num_classes, count))
    logits = random.normal(0, 1.5, (count, num_classes))
    logits[np.arange(count), true] += 2
    powers = np.exp(logits)
    return labels, powers / powers.sum(1, keepdims=True)


@pytest.mark.filterwarnings("ignore")
def test_as_the_authors_library_has_it() -> None:
    """The same images in the same order.

    Where several classes are confident and the likeliest class of all is not, the paper takes the likeliest of the
    confident ones; the library takes the likeliest of all. Those images are left out here.
    """
    issues = pytest.importorskip("cleanlab.filter").find_label_issues
    compared = 0
    for seed in range(40):
        labels, probabilities = drawn(seed)
        confident = probabilities >= class_thresholds(labels, probabilities)
        rows = np.arange(len(labels))
        apart = (confident.sum(1) > 1) & ~confident[rows, probabilities.argmax(1)]
        expected = issues(
            labels, probabilities, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
        )
        found = find_label_errors(labels, probabilities)
        assert [image for image in found.images if not apart[image]] == [row for row in expected if not apart[row]]
        compared += len(found.images)
    assert compared > 500


def test_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    first = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.7])
    probabilities = np.stack([first, 1 - first], axis=1)
    # the means of the own class: (0.9 + 0.8 + 0.1) / 3 and (0.8 + 0.7 + 0.3) / 3
    assert class_thresholds(labels, probabilities) == pytest.approx([0.6, 0.6])
    found = find_label_errors(labels, probabilities)
    assert found.images.tolist() == [2, 5]  # the label of image 2 is believed least
    assert found.suggested.tolist() == [1, 0]


def test_a_network_that_is_unsure_names_nothing() -> None:
    labels = np.arange(30) % 3
    assert len(find_label_errors(labels, np.full((30, 3), 1 / 3)).images) == 0


def test_a_class_without_images_is_never_suggested() -> None:
    probabilities = np.array([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.05, 0.05, 0.9]])
    labels = np.array([0, 1, 1])
    assert np.isinf(class_thresholds(labels, probabilities)[2])
    assert 2 not in find_label_errors(labels, probabilities).suggested


def test_no_images() -> None:
    found = find_label_errors(np.empty(0, dtype=np.int64), np.empty((0, 4)))
    assert len(found.images) == len(found.suggested) == 0
