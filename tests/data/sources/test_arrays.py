"""Arrays, tensors, .npz files and the embedded digits."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from halftone.base.errors import DataError
from halftone.data.config import DataConfig
from halftone.data.labelled import Parts
from halftone.data.open import open_source
from halftone.data.sources.arrays import from_arrays, open_npz
from pictures import noise
from samples import stripes, write_npz

LABELS = np.array([0, 1, 2, 1])
IMAGES = np.stack([noise(5, 6, seed=seed) for seed in range(4)])


def test_the_digits_are_those_of_scikit_learn() -> None:
    source = open_source(DataConfig(source="digits")).train
    theirs = load_digits()
    assert source.array is not None
    assert source.array.shape == (1797, 8, 8, 1)
    assert (source.labels == theirs.target).all()
    assert np.abs(source.array[..., 0] / 255 * 16 - theirs.images).max() < 0.05
    assert source.array.max() == 255
    assert source.classes == tuple("0123456789")
    assert source.name(7) == "digit-00007"
    assert source.look(0)[:3] == (8, 8, True)
    assert source.content(3) == source.pixels(3).tobytes()


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        torch.from_numpy(IMAGES),
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2),
        IMAGES.astype(np.int64),
        (IMAGES / 255).astype(np.float32),
        (IMAGES / 255),
        torch.from_numpy(IMAGES / 255).requires_grad_(),
        np.asfortranarray(IMAGES),
        IMAGES.tolist(),
    ],
)
def test_images_of_every_layout_and_type(images: Any) -> None:
    source = from_arrays(images, LABELS)
    assert (source.images == IMAGES).all()
    assert source.images.dtype == np.uint8
    assert source.images.flags.c_contiguous
    assert source.classes == ("0", "1", "2")
    assert (source.pixels(2) == IMAGES[2]).all()
    assert source.look(0)[:3] == (5, 6, False)


def test_gray_images_and_masks() -> None:
    gray = IMAGES[..., 0]
    for images in (gray, gray[..., None], gray[:, None], torch.from_numpy(gray)):
        assert (from_arrays(images, LABELS).images[..., 0] == gray).all()
    assert from_arrays(gray, LABELS).look(0).gray
    assert (from_arrays(gray > 127, LABELS).images[..., 0] == np.where(gray > 127, 255, 0)).all()


def test_half_precision_tensors() -> None:
    images = torch.from_numpy(IMAGES / 255)
    for kind, error in ((torch.float16, 0), (torch.bfloat16, 1)):
        found = from_arrays(images.to(kind), torch.tensor([0, 1, 0, 1])).images
        assert np.abs(found.astype(int) - IMAGES).max() <= error


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS.tolist(), LABELS[:, None], torch.from_numpy(LABELS), LABELS.astype("u1")]
)
def test_labels_of_every_type(labels: Any) -> None:
    source = from_arrays(IMAGES, labels, ("ant", "bee", "cat"))
    assert source.labels.tolist() == [0, 1, 2, 1]
    assert source.labels.dtype == np.int64
    assert source.classes == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, [0, 1], "labels of shape [2] and type int64 for 4 images"),
        (IMAGES, [0.0, 1.0, 2.0, 1.0], "type float64"),
        (IMAGES, ["a", "b", "c", "a"], "type <U1"),
        (IMAGES, np.eye(4, dtype=int), "labels of shape [4, 4]"),
        (IMAGES, [0, 1, -1, 1], "label -1 is outside of the 2 classes"),
        (IMAGES, [0, 1, 10**9, 1], "label 1000000000: labels number the classes from 0"),
        (IMAGES[0, 0], [0] * 6, "images of shape [6, 3]"),
        (np.zeros((4, 5, 6, 2)), LABELS, "images with 2 channels"),
        (np.zeros((4, 5, 6, 4), np.uint8), LABELS, "images with 4 channels"),
        (IMAGES.astype(np.float32), LABELS, "floating-point images with values from"),
        (IMAGES / 255 - 0.5, LABELS, "floating-point images with values from -0.5 to 0.5"),
        (np.full((4, 5, 5), np.nan), LABELS, "floating-point images with values from nan to nan"),
        (np.full((4, 5, 5), 256), LABELS, "images of type int64 with values outside of 0 to 255"),
        (np.full((4, 5, 5), -1), LABELS, "values outside of 0 to 255"),
    ],
)
def test_C14_what_does_not_fit_is_refused(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        from_arrays(images, labels)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_C14_a_label_beyond_the_names_is_refused() -> None:
    with pytest.raises(DataError, match="label 2 is outside of the 2 classes"):
        from_arrays(IMAGES, LABELS, ("ant", "bee"))


@settings(max_examples=40)
@given(st.integers(0, 255), st.sampled_from([np.float16, np.float32, np.float64]))
def test_every_shade_survives_floating_point(shade: int, kind: Any) -> None:
    images = np.full((1, 2, 2, 3), shade / 255, dtype=kind)
    assert (from_arrays(images, [0]).images == shade).all()


def test_an_npz_file(tmp_path: Path) -> None:
    parts = open_source(DataConfig(source=str(write_npz(tmp_path / "a.npz", train=12, test=6))))
    assert parts.train.classes == ("across", "aslant", "down")
    assert (parts.train.labels == stripes(12, seed=1)[1]).all()
    assert parts.train.array is not None
    assert (parts.train.array == stripes(12, seed=1)[0]).all()
    assert parts.test is not None
    assert len(parts.test.labels) == 6
    assert parts.test.name(2) == "test-00002"
    assert parts.validation is None


def npz(path: Path, **arrays: Any) -> Path:
    images, labels = stripes(6, size=4)
    np.savez(path, **({"x_train": images, "y_train": labels} | arrays))
    return path


def test_an_npz_file_with_all_parts_and_without_names(tmp_path: Path) -> None:
    images, labels = stripes(9, size=4, classes=5)
    path = npz(tmp_path / "a.npz", x_val=images, y_val=labels[:, None], x_test=images[:3], y_test=labels[:3])
    with pytest.raises(DataError, match=r"validation part has classes|outside") as caught:
        _check(open_npz(path))
    assert "3, 4" in str(caught.value)
    fine = npz(tmp_path / "b.npz", x_val=images[:3], y_val=labels[:3, None])
    parts = open_npz(fine)
    assert parts.validation is not None
    assert parts.validation.classes == parts.train.classes == ("0", "1", "2")


def _check(parts: Parts) -> None:
    """Open what an .npz file brought as the rest of halftone does."""
    open_source(DataConfig(), Parts(from_arrays(parts.train.array, parts.train.labels), parts.validation))


def test_class_names_as_bytes(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", classes=np.array([b"ant", b"bee", b"cat"]))
    assert open_npz(path).train.classes == ("ant", "bee", "cat")
    path = npz(tmp_path / "b.npz", classes=np.array(["ant", "bee"]))
    with pytest.raises(DataError, match="label 2 is outside of the 2 classes"):
        open_npz(path)


def npz_refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(source=str(path)))
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_an_npz_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"text", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        assert "is not an .npz file" in str(npz_refused(path))
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "is not an .npz file" in str(npz_refused(path))


def test_an_npz_file_without_the_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros(3), x_train=np.zeros(3))
    error = npz_refused(tmp_path / "a.npz")
    assert "holds images, x_train, but not y_train" in str(error)
    assert "x_train and y_train" in error.hint
    path = npz(tmp_path / "b.npz", x_test=IMAGES)
    assert "holds x_test without y_test" in str(npz_refused(path))


def test_D25_an_npz_file_runs_no_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "canary",))

    path = npz(tmp_path / "a.npz", x_train=np.array([Payload()], dtype=object))
    (tmp_path / "canary").unlink(missing_ok=True)
    assert "Object arrays cannot be loaded" in str(npz_refused(path))
    assert not (tmp_path / "canary").exists()
    other = npz(tmp_path / "b.npz", comment=np.array([Payload()], dtype=object))
    assert len(open_npz(other).train.labels) == 6  # what is not asked for is not read
    assert not (tmp_path / "canary").exists()


def test_a_damaged_npz_file(tmp_path: Path) -> None:
    images, labels = stripes(40, size=8)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=images, y_train=labels)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    npz_refused(path)
    for start in range(60, len(whole) - 200, 997):
        path.write_bytes(whole[:start] + bytes(30) + whole[start + 30 :])
        npz_refused(path)


def test_an_npz_file_that_claims_to_be_huge(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("x_train", "y_train"):
            header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117) + "\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    npz_refused(tmp_path / "a.npz")
