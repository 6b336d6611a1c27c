"""Mixup and cutmix: images, partners, shares, targets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from halftone.data.augment.mix import Mix, mixed_targets


def flat(count: int, height: int = 8, width: int = 10) -> torch.Tensor:
    """Image k has the value k everywhere."""
    return (
        torch.arange(count)
        .float()[:, None, None, None]
        .expand(count, 3, height, width)
        .contiguous(memory_format=torch.channels_last)
    )


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@settings(max_examples=60)
@given(st.integers(2, 9), st.floats(0.05, 10), st.integers(0, 10**6))
def test_mixup_blends_each_image_with_its_partner(count: int, amount: float, seed: int) -> None:
    images = flat(count)
    mixed, partner, share = Mix(amount, 0)(images, generator(seed))
    assert 0 <= share <= 1
    assert sorted(partner.tolist()) == list(range(count))
    assert torch.allclose(mixed, share * images + (1 - share) * images[partner], atol=1e-5)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=60)
@given(st.integers(2, 9), st.floats(0.05, 10), st.integers(0, 10**6))
def test_cutmix_pastes_a_rectangle_and_counts_its_area(count: int, amount: float, seed: int) -> None:
    images = flat(count)
    mixed, partner, share = Mix(0, amount)(images, generator(seed))
    for index in range(count):
        if partner[index] == index:
            assert torch.equal(mixed[index], images[index])
            continue
        pasted = mixed[index, 0] == partner[index]
        assert torch.equal(mixed[index, 0][~pasted], images[index, 0][~pasted])
        assert pasted.float().mean().item() == pytest.approx(1 - share, abs=1e-6)
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns[None])
        assert (rows.int().diff() != 0).sum() <= 2
    assert torch.equal(images, flat(count))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.floats(0, 1), st.randoms(use_true_random=False))
def test_targets_are_probabilities(labels: list[int], share: float, random: object) -> None:
    partner = torch.randperm(len(labels), generator=torch.Generator().manual_seed(len(labels)))
    targets = mixed_targets(torch.tensor(labels), partner, share, 5)
    assert targets.shape == (len(labels), 5)
    assert torch.allclose(targets.sum(1), torch.ones(len(labels)))
    for row, label, other in zip(targets, labels, partner.tolist(), strict=True):
        expected = torch.zeros(5)
        expected[label] += share
        expected[labels[other]] += 1 - share
        assert torch.allclose(row, expected)


def test_shares_have_the_distribution_that_was_asked_for() -> None:
    images = flat(2, 1, 1)
    shares = np.array([Mix(0.2, 0)(images, generator(seed))[2] for seed in range(1500)])
    assert abs(shares.mean() - 0.5) < 0.04
    assert abs(shares.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.01  # the variance of Beta(a, a)


def test_with_both_on_each_comes_half_of_the_time() -> None:
    images = flat(4)
    kinds = []
    for seed in range(200):
        mixed, partner, share = Mix(1.0, 1.0)(images, generator(seed))
        kinds.append(torch.allclose(mixed, share * images + (1 - share) * images[partner], atol=1e-5))
    assert 70 < sum(kinds) < 135
