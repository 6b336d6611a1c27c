"""What people pass in Python: data sets, tensors, pairs of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from halftone.base.errors import DataError, UnreadableImage
from halftone.data.config import DataConfig
from halftone.data.labelled import Parts
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays
from halftone.data.sources.dataset import DatasetImages, open_given
from pictures import encoded, noise
from samples import stripes, write_folder

IMAGES, LABELS = stripes(12, size=6)


class Listed(Dataset[Any]):
    """A data set as tutorials write them; counts how often it is read."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items, self.reads = items, 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def pairs(kind: Any = lambda image: image) -> list[Any]:
    return [(kind(image), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)]


@pytest.mark.parametrize(
    "kind",
    [
        lambda image: image,
        Image.fromarray,
        torch.from_numpy,
        lambda image: torch.from_numpy(image).permute(2, 0, 1),
        v2.functional.to_image,
        lambda image: v2.functional.to_dtype(v2.functional.to_image(image), torch.float32, scale=True),
    ],
)
def test_items_of_every_type(kind: Any) -> None:
    source = open_given(Listed(pairs(kind))).train
    assert source.labels.tolist() == LABELS.tolist()
    assert source.classes == ("0", "1", "2")
    assert source.array is None
    for index in range(12):
        assert (source.pixels(index) == IMAGES[index]).all()
    assert source.look(0)[:3] == (6, 6, False)
    assert source.name(3) == "item-00003"
    assert source.content(0) != source.content(1)


def test_a_gray_pillow_data_set_is_seen_as_gray() -> None:
    source = open_given(Listed([(Image.fromarray(image[..., 0]), 0) for image in IMAGES])).train
    assert source.look(0)[:3] == (6, 6, True)
    assert (source.pixels(0) == IMAGES[0, ..., :1]).all()


def test_a_data_set_of_torchvision_is_read_as_the_folder_itself(tmp_path: Path) -> None:
    root = write_folder(tmp_path, train=9, val=6)
    theirs = ImageFolder(root / "train")
    source = open_given(theirs).train
    ours = open_source(DataConfig(source=str(root))).train
    assert source.classes == ours.classes
    assert (source.labels == ours.labels).all()
    assert all((source.pixels(index) == ours.pixels(index)).all() for index in range(9))


def test_labels_are_taken_without_reading_images_where_they_can_be() -> None:
    for name in ("targets", "labels"):
        for labels in (LABELS, LABELS.tolist(), torch.from_numpy(LABELS), LABELS.astype(np.uint8)):
            data = Listed(pairs(), **{name: labels, "classes": ["ant", "bee", "cat"]})
            source = open_given(data).train
            assert source.labels.tolist() == LABELS.tolist()
            assert source.classes == ("ant", "bee", "cat")
            assert data.reads == 0


@pytest.mark.parametrize(
    "attributes",
    [
        {"targets": ["a"] * 12},
        {"targets": [0]},
        {"targets": np.eye(12)},
        {"targets": 12},
        {"labels": None},
        {"targets": (LABELS + 1).tolist(), "target_transform": lambda label: label - 1},
    ],
)
def test_labels_that_are_something_else_are_read_from_the_items(attributes: dict[str, Any]) -> None:
    assert open_given(Listed(pairs(), **attributes)).train.labels.tolist() == LABELS.tolist()


def test_subsets_keep_names_and_read_no_images() -> None:
    data = Listed(pairs(), targets=LABELS.tolist(), classes=("ant", "bee", "cat"))
    train, validation = random_split(data, [8, 4], torch.Generator().manual_seed(0))
    parts = open_given((train, validation))
    assert data.reads == 0
    assert parts.validation is not None
    for part, subset in ((parts.train, train), (parts.validation, validation)):
        assert part.classes == ("ant", "bee", "cat")
        assert part.labels.tolist() == LABELS[subset.indices].tolist()
        assert (part.pixels(1) == IMAGES[subset.indices[1]]).all()
    assert (
        open_given(Subset(train, [2, 0])).train.labels.tolist() == LABELS[[train.indices[2], train.indices[0]]].tolist()
    )
    assert (parts.train.name(0), parts.validation.name(0)) == ("train-00000", "validation-00000")


def test_tensors_and_arrays() -> None:
    for images, labels in (
        (IMAGES, LABELS),
        (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        (IMAGES, LABELS.tolist()),
    ):
        source = open_given((images, labels)).train
        assert source.array is not None
        assert (source.array == IMAGES).all()
        assert source.labels.tolist() == LABELS.tolist()
    parts = open_given(((IMAGES[:8], LABELS[:8]), (IMAGES[8:], LABELS[8:])))
    assert parts.validation is not None
    assert (len(parts.train.labels), len(parts.validation.labels)) == (8, 4)
    dataset = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
    assert open_given(dataset).train.labels.tolist() == LABELS.tolist()


def test_a_short_list_of_items_is_one_data_set() -> None:
    source = open_given(pairs()[:2]).train
    assert source.labels.tolist() == LABELS[:2].tolist()
    assert open_given((pairs()[:6], pairs()[6:])).validation is not None


def test_what_is_halftones_own_passes() -> None:
    source = from_arrays(IMAGES, LABELS)
    parts = Parts(source)
    assert open_given(parts) is parts
    assert open_given(source).train is source


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "data of type int"),
        (iter([]), "data of type list_iterator"),
        (IMAGES, "data of type ndarray without labels"),
        (torch.zeros(3, 4, 4), "data of type Tensor without labels"),
        ([], "the data set is empty"),
        ([(IMAGES[0], "cat")], "item 0 of the data set has no label: TypeError"),
        ([(IMAGES[0], 1.5)], "item 0 of the data set has no label: TypeError"),
        ([3], "item 0 of the data set has no label"),
        ([{"image": 1}], "item 0 of the data set has no label: KeyError: 1"),
        (Listed([(IMAGES[0], 0), OSError("broken")]), "item 1 of the data set has no label: OSError: broken"),
    ],
)
def test_what_is_no_data_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(), given)
    assert message in str(caught.value)
    assert caught.value.hint or "empty" in message


def test_C14_labels_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="training part has the label -1, outside of the 3 classes"):
        open_source(DataConfig(), Listed(pairs(), targets=(LABELS - 1).tolist(), classes=["a", "b", "c"]))
    with pytest.raises(DataError, match="validation part has classes that training does not: 2"):
        open_source(DataConfig(), ((IMAGES, LABELS % 2), (IMAGES, LABELS)))
    with pytest.raises(DataError, match="label 5000000"):
        open_source(DataConfig(), Listed(pairs()[:1], targets=[5_000_000]))


def test_A30_parts_are_matched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    train = from_arrays(IMAGES, LABELS, ("ant", "bee", "cat"))
    other = from_arrays(IMAGES, LABELS, ("cat", "ant", "bee", "dog"))
    parts = open_source(DataConfig(), Parts(train, validation=other))
    assert parts.validation is not None
    assert parts.validation.classes == ("ant", "bee", "cat")
    assert [("cat", "ant", "bee")[label] for label in LABELS] == [
        parts.validation.classes[label] for label in parts.validation.labels
    ]
    stranger = from_arrays(IMAGES, LABELS, ("cat", "ant", "dog"))
    with pytest.raises(DataError, match=r"the test part has classes .*: dog \(training has ant, bee, cat\)"):
        open_source(DataConfig(), Parts(train, test=stranger))


@pytest.mark.parametrize(
    "error",
    [
        OSError("cut"),
        ValueError("bad\nvalue"),
        SyntaxError("broken PNG file"),
        EOFError(),
        Image.DecompressionBombError(),
    ],
)
def test_D12_a_damaged_item_is_an_unreadable_image(error: Exception) -> None:
    source = DatasetImages(Listed([error]), np.zeros(1, dtype=np.int64), ("a",))
    for read in (source.pixels, source.look, source.content):
        with pytest.raises(UnreadableImage) as caught:
            read(0)
        assert len(str(caught.value).splitlines()) == 1


def test_D12_a_fault_of_the_program_is_not_hidden() -> None:
    source = DatasetImages(Listed([AttributeError("typo")]), np.zeros(1, dtype=np.int64), ("a",))
    with pytest.raises(AttributeError, match="typo"):
        source.pixels(0)


def test_A2_a_picture_that_fails_only_when_decoded_is_an_unreadable_image() -> None:
    data = encoded(noise(48, 48))
    lazy = Image.open(io.BytesIO(data[: len(data) // 2]))
    source = open_given([(lazy, 0)]).train
    assert source.look(0)[:2] == (48, 48)
    with pytest.raises(UnreadableImage):
        source.pixels(0)


def test_normalised_items_say_what_to_give_instead() -> None:
    source = open_given([(torch.randn(3, 4, 4), 0)]).train
    with pytest.raises(UnreadableImage, match=r"floating-point images .*give uint8, or floats in \[0, 1\]"):
        source.pixels(0)
