"""Images that lie in memory: the embedded digits, .npz files, arrays and tensors."""

import sys
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from halftone.base.errors import DataError, listed
from halftone.data.labelled import Labels, Look, Parts, Pixels

_NPZ = frozenset({"x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "classes"})
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class ArrayImages:
    """A labelled source over one uint8 array, [images, height, width, channels]."""

    images: Pixels
    labels: Labels
    classes: tuple[str, ...]
    prefix: str = "image"

    @property
    def array(self) -> Pixels:
        """All images."""
        return self.images

    def pixels(self, index: int) -> Pixels:
        """Return one image, [height, width, channels]."""
        return self.images[index]

    def encoded(self, index: int) -> None:
        """Arrays have no files."""

    def look(self, index: int) -> Look:
        """Return the shape that all images share."""
        _, height, width, channels = self.images.shape
        return Look(height, width, channels == 1)

    def content(self, index: int) -> bytes:
        """Return the raw pixels of one image."""
        return self.images[index].tobytes()

    def name(self, index: int) -> str:
        """Name one image by its position."""
        return f"{self.prefix}-{index:05d}"


def open_digits() -> Parts:
    """Return the 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI, Alpaydin and Kaynak 1998)."""
    table = _digits()
    images = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return Parts(ArrayImages(images, table[:, -1].astype(np.int64), tuple("0123456789"), "digit"))


def _digits() -> np.ndarray[Any, Any]:
    """Return a row for each digit, 64 pixels from 0 to 16 and the label, [1797, 65].

    From scikit-learn's file, without importing scikit-learn, which takes longer than many an epoch on the digits.
    """
    found = find_spec("sklearn")
    file = Path(found.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if found is not None else Path()
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # of a release that keeps it elsewhere

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])


def open_npz(path: Path) -> Parts:
    """Open a file with `x_train, y_train` and optionally `x_val, y_val`, `x_test, y_test` and `classes`.

    Raises:
        DataError: not such a file, or arrays that do not fit together.
    """
    arrays = _read_npz(path)
    if "classes" in arrays:
        classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in arrays["classes"].ravel())
    else:
        classes = class_names(*(arrays[key] for key in ("y_train", "y_val", "y_test") if key in arrays))

    def part(suffix: str) -> ArrayImages | None:
        if f"x_{suffix}" not in arrays:
            return None
        if f"y_{suffix}" not in arrays:
            raise DataError(f"{path} holds x_{suffix} without y_{suffix}")
        return from_arrays(arrays[f"x_{suffix}"], arrays[f"y_{suffix}"], classes, prefix=suffix)

    train = part("train")
    assert train is not None
    return Parts(train, part("val"), part("test"))


def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    hint = "an .npz file needs x_train and y_train, and may have x_val, y_val, x_test, y_test and classes"
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is not an .npz file: write one with numpy.savez", hint=hint)
        with np.load(path, allow_pickle=False) as archive:
            missing = {"x_train", "y_train"} - set(archive.files)
            if missing:
                raise DataError(
                    f"{path} holds {listed(sorted(archive.files)) or 'nothing'}, but not {listed(sorted(missing))}",
                    hint=hint,
                )
            return {name: archive[name] for name in archive.files if name in _NPZ}
    except (OSError, ValueError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def from_arrays(
    images: Any, labels: Any, classes: tuple[str, ...] | None = None, *, prefix: str = "image"
) -> ArrayImages:
    """Take a pair of arrays or tensors as a labelled source.

    Args:
        images: uint8 or floating point in [0, 1]; [images, height, width], with channels last or, as torch
            has them, before height and width.
        labels: whole numbers from 0, [images].
        classes: names; without them the numbers serve as names.
        prefix: begins the name of each image.

    Raises:
        DataError: shapes, types or label values that do not fit.
    """
    pixels, numbers = _as_pixels(as_array(images)), as_array(labels)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.shape != (len(pixels),) or numbers.dtype.kind not in "iu":
        raise DataError(
            f"labels of shape {list(numbers.shape)} and type {numbers.dtype} for {len(pixels)} images",
            hint="labels are one whole number per image",
        )
    numbers = numbers.astype(np.int64)
    names = class_names(numbers) if classes is None else classes
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(names)):
        bad = numbers.min() if numbers.min() < 0 else numbers.max()
        raise DataError(f"label {bad} is outside of the {len(names)} classes, which are numbered from 0")
    return ArrayImages(pixels, numbers, names, prefix)


def as_array(values: Any) -> np.ndarray[Any, Any]:
    """Return an array, also of a tensor on another device, with a gradient, or of a type that NumPy has not."""
    torch = sys.modules.get("torch")  # without it nobody holds a tensor, and importing it takes a second
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def class_names(*labels: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Number the classes that some labels speak of, for want of names."""
    highest = max((int(np.max(part)) for part in labels if np.size(part) and part.dtype.kind in "iu"), default=-1)
    if highest >= _MOST_CLASSES:
        raise DataError(f"label {highest}: labels number the classes from 0, without gaps")
    return tuple(str(number) for number in range(highest + 1))


def _as_pixels(images: np.ndarray[Any, Any]) -> Pixels:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise DataError(f"images of shape {list(images.shape)}", hint="use [images, height, width, channels]")
    if images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[-1] not in (1, 3):
        raise DataError(f"images with {images.shape[-1]} channels", hint="1 (gray) or 3 (RGB) are read")
    if images.dtype == np.bool_:
        images = images.astype(np.uint8) * 255
    if images.dtype.kind == "f":
        low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"floating-point images with values from {low:g} to {high:g}",
                hint="give uint8, or floats in [0, 1] that were not normalised: halftone normalises on the device",
            )
        images = np.rint(images * 255)
    elif images.dtype != np.uint8 and images.size and (images.min() < 0 or images.max() > 255):
        raise DataError(f"images of type {images.dtype} with values outside of 0 to 255")
    return np.ascontiguousarray(images.astype(np.uint8))
