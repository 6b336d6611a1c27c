"""Images with labels, and the ways to take a part of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftone.data.fingerprint import fingerprint
from halftone.data.labelled import Labelled, Parts, Relabelled, Subset, in_memory, without
from halftone.data.sources.arrays import ArrayImages, from_arrays
from samples import stripes

IMAGES, LABELS = stripes(12, size=5)
SOURCE = from_arrays(IMAGES, LABELS, ("ant", "bee", "cat"))


class NotInMemory(ArrayImages):
    """Images that are read one by one."""

    @property
    def array(self) -> Any:
        return None


def same_images(part: Labelled, whole: Labelled, indices: Any) -> None:
    assert len(part.labels) == len(indices)
    for index, place in enumerate(indices):
        assert (part.pixels(index) == whole.pixels(place)).all()
        assert part.look(index) == whole.look(place)
        assert part.content(index) == whole.content(place)
        assert part.name(index) == whole.name(place)
        assert part.classes[part.labels[index]] == whole.classes[whole.labels[place]]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 11)), st.lists(st.integers(0, 11)))
def test_a_subset_is_the_chosen_images_in_that_order(first: list[int], second: list[int]) -> None:
    subset = Subset(SOURCE, np.array(first, dtype=np.int64))
    same_images(subset, SOURCE, first)
    assert subset.array is not None
    assert (subset.array == IMAGES[first]).all()
    if first:
        places = [place % len(first) for place in second]
        same_images(Subset(subset, np.array(places, dtype=np.int64)), SOURCE, [first[place] for place in places])


def test_classes_are_numbered_anew_by_name() -> None:
    other = Relabelled(SOURCE, ("dog", "cat", "ant", "bee"))
    same_images(other, SOURCE, range(12))
    assert other.labels.tolist() == [(2, 3, 1)[label] for label in LABELS]
    assert other.array is not None
    assert Relabelled(SOURCE, ("ant", "bee")).labels.min() == -1


def test_images_can_be_left_out() -> None:
    assert without(SOURCE, []) is SOURCE
    same_images(without(SOURCE, [11, 0, 3, 3]), SOURCE, [1, 2, 4, 5, 6, 7, 8, 9, 10])


def test_what_lies_in_memory_is_known_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Relabelled(Subset(Subset(SOURCE, np.arange(5)), np.arange(2)), ("cat", "ant", "bee"))
    monkeypatch.setattr(Subset, "array", property(lambda _: pytest.fail("copied")))
    assert in_memory(SOURCE)
    assert in_memory(part)
    assert not in_memory(Subset(NotInMemory(IMAGES, LABELS, SOURCE.classes), np.arange(3)))


def test_A35_the_fingerprint_changes_with_the_data() -> None:
    marks = {
        "same": fingerprint(Parts(SOURCE)),
        "pixels": fingerprint(Parts(replace(SOURCE, images=IMAGES ^ 1))),
        "labels": fingerprint(Parts(replace(SOURCE, labels=LABELS[::-1].copy()))),
        "names": fingerprint(Parts(replace(SOURCE, classes=("ant", "bee", "cow")))),
        "fewer": fingerprint(Parts(Subset(SOURCE, np.arange(11)))),
        "validation": fingerprint(Parts(SOURCE, validation=SOURCE)),
        "test": fingerprint(Parts(SOURCE, test=SOURCE)),
        "shape": fingerprint(Parts(replace(SOURCE, images=IMAGES.reshape(12, 25, 1, 3)))),
    }
    assert len(set(marks.values())) == len(marks)
    assert all(len(mark) == 16 for mark in marks.values())
    assert fingerprint(Parts(Subset(SOURCE, np.arange(12)), notes=("a note",))) == marks["same"]
