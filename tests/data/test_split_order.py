"""Holding out by content, and the order of the epochs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from halftone.base.errors import UnreadableImage
from halftone.data.config import DataConfig
from halftone.data.labelled import Subset
from halftone.data.open import open_source
from halftone.data.order import balanced_order, epoch_order
from halftone.data.sources.arrays import from_arrays
from halftone.data.split import content_digests, hold_out
from pictures import noise, write


def numbered(contents: list[int], labels: list[int]) -> Any:
    """A source whose images are told apart by a number."""
    images = np.array(contents, dtype=np.uint32).view(np.uint8).reshape(-1, 2, 2, 1)
    return from_arrays(images, np.array(labels), ("a", "b", "c"))


SETS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=60)
SHARES = st.floats(0.01, 0.99)


@settings(max_examples=100)
@given(SETS, SHARES, st.integers(0, 2**63 - 1))
def test_a_split_is_stratified_and_complete(items: list[tuple[int, int]], share: float, seed: int) -> None:
    source = numbered(*map(list, zip(*items, strict=True)))
    train, held = hold_out(source, share, seed=seed)
    assert sorted([*train.indices, *held.indices]) == list(range(len(items)))
    assert (np.diff(train.indices) > 0).all()
    assert (np.diff(held.indices) > 0).all()
    for label in range(3):
        contents = [content for content, of in items if of == label]
        inside = [items[index][0] for index in held.indices if items[index][1] == label]
        outside = [items[index][0] for index in train.indices if items[index][1] == label]
        assert not set(inside) & set(outside)  # equal images of a class lie on one side
        assert bool(outside) == bool(contents)  # no class is dropped from training
        if len(set(contents)) > 1:
            assert inside
        if len(set(contents)) == len(contents) > 1:
            assert len(inside) == min(max(1, round(share * len(contents))), len(contents) - 1)


@settings(max_examples=40)
@given(SETS, SHARES, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order(items: list[tuple[int, int]], share: float, random: Any) -> None:
    shuffled = random.sample(items, len(items))

    def held(these: list[tuple[int, int]]) -> list[tuple[int, int]]:
        _, part = hold_out(numbered(*map(list, zip(*these, strict=True))), share, seed=0)
        return sorted(these[index] for index in part.indices)

    assert held(items) == held(shuffled)


def test_a_split_of_files_does_not_depend_on_their_names(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / "here" / ("cat", "dog")[number % 2] / f"{number}.png", noise(4, 4, seed=number))
        write(
            tmp_path / "there" / ("Katze", "Hund")[number % 2] / f"x{(number * 7) % 20}.png", noise(4, 4, seed=number)
        )

    def held(name: str) -> set[bytes]:
        _, part = hold_out(open_source(DataConfig(source=str(tmp_path / name))).train, 0.3, seed=0, workers=2)
        return {part.content(index) for index in range(len(part.labels))}

    assert held("here") == held("there")
    assert len(held("here")) == 6


def test_another_seed_holds_out_others_and_more_images_move_few() -> None:
    contents, labels = list(range(300)), [number % 3 for number in range(300)]
    source = numbered(contents, labels)
    _, first = hold_out(source, 0.2, seed=0)
    _, again = hold_out(source, 0.2, seed=0, workers=3)
    _, other = hold_out(source, 0.2, seed=1)
    assert (first.indices == again.indices).all()
    assert 2 <= len(set(first.indices) & set(other.indices)) <= 30  # 12 by chance
    larger = numbered([*contents, *range(300, 330)], [*labels, *labels[:30]])
    _, grown = hold_out(larger, 0.2, seed=0)
    assert len(set(first.indices) - set(grown.indices)) <= 8


def test_A29_a_class_of_one_image_or_of_copies_of_one_stays_in_training() -> None:
    train, held = hold_out(numbered([1, 2, 2, 2, 5, 6], [0, 1, 1, 1, 2, 2]), 0.5, seed=0)
    assert held.labels.tolist() == [2]
    assert train.labels.tolist() == [0, 1, 1, 1, 2]


def test_A31_copies_are_never_torn_apart() -> None:
    contents = [number // 4 for number in range(80)]
    for seed in range(20):
        train, held = hold_out(numbered(contents, [0] * 80), 0.25, seed=seed)
        assert len(held.labels) == 20
        assert not {contents[index] for index in held.indices} & {contents[index] for index in train.indices}


def test_A1_an_unreadable_image_counts_by_its_name(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        write(tmp_path / name)
    source = open_source(DataConfig(source=str(tmp_path))).train
    before = content_digests(source, workers=1)
    (tmp_path / "cat" / "2.png").unlink()
    with pytest.raises(UnreadableImage):
        source.content(1)
    after = content_digests(source, workers=2)
    assert (before == after).tolist() == [True, False, True]
    assert len(set(after)) == 3
    assert (content_digests(source, workers=1, salt=1) != after).all()
    assert len(content_digests(Subset(source, np.array([], dtype=np.int64)), workers=1)) == 0


@settings(max_examples=50)
@given(st.integers(0, 500), st.integers(0, 2**62), st.integers(0, 10**6))
def test_an_epoch_sees_every_image_once(num_images: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_images, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(num_images))
    assert order.dtype == np.int64
    assert (order == epoch_order(num_images, seed=seed, epoch=epoch)).all()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert epoch_order(5, seed=0, epoch=0).tolist() == [1, 4, 2, 0, 3]  # a run of an older version must go on with it


def test_every_place_is_equally_likely() -> None:
    first = [epoch_order(8, seed=0, epoch=epoch)[0] for epoch in range(800)]
    assert chisquare(np.bincount(first, minlength=8)).pvalue > 0.001


def test_a_balanced_order_draws_every_class_equally_often() -> None:
    labels = np.array([0] * 900 + [1] * 90 + [3] * 10)
    order = balanced_order(labels, seed=0, epoch=0)
    assert len(order) == 1000
    counts = np.bincount(labels[order], minlength=4)
    assert counts[2] == 0
    assert chisquare(counts[[0, 1, 3]]).pvalue > 0.001
    assert (order == balanced_order(labels, seed=0, epoch=0)).all()
    assert (order != balanced_order(labels, seed=0, epoch=1)).any()
    within = np.bincount(np.concatenate([balanced_order(labels, seed=0, epoch=epoch) for epoch in range(5)]))[990:]
    assert chisquare(within).pvalue > 0.001
