"""Small data for tests: pictures whose class can be seen, and folders of them."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from halftone.base.errors import Interrupted
from halftone.base.tables import read_table
from halftone.run.events import Event, StepTaken
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.verbs import resume, train

OFF: dict[str, Any] = {
    "policy": "none",
    "flip": 0.0,
    "pad_crop": 0,
    "border": "reflect",
    "resized_crop": "none",
    "rotate": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "random_ops": "none",
    "erase": 0.0,
}
"""Settings of augmentation without any change."""


def stripes(
    count: int, *, size: int = 16, classes: int = 3, channels: int = 3, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [count, size, size, channels] and labels: noisy stripes across, aslant or down, checks, fine stripes.

    Up to five classes. Mirroring leaves the class as it is.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows, columns = np.mgrid[:size, :size]
    images = np.empty((count, size, size, channels), dtype=np.uint8)
    for number, label in enumerate(labels):
        start = random.uniform(0, 6, 2)
        across, down = np.sin(rows * 1.2 + start[0]), np.sin(columns * 1.2 + start[1])
        aslant, fine = np.sin((rows + columns) * 0.85 + start[0]), np.sin(rows * 2.4 + start[0])
        wave = (across, aslant, down, across * down, fine)[label]
        picture = 127 + 70 * wave[:, :, None] + random.normal(0, 25, (size, size, channels))
        images[number] = picture.clip(0, 255)
    return images, labels.astype(np.int64)


def write_npz(path: Path, *, train: int = 96, test: int = 24, **options: int) -> Path:
    """Write a file that halftone reads as data."""
    x_train, y_train = stripes(train, seed=1, **options)
    x_test, y_test = stripes(test, seed=2, **options)
    classes = np.array(["across", "aslant", "down", "other"][: int(y_train.max()) + 1])
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=classes)
    return path


def write_folder(
    root: Path, *, train: int = 60, val: int = 18, size: int = 20, classes: int = 3, suffix: str = ".png"
) -> Path:
    """Write an image folder with train/ and val/."""
    names = ["across", "aslant", "down", "other"]
    for part, count, seed in (("train", train, 1), ("val", val, 2)):
        images, labels = stripes(count, size=size, classes=classes, seed=seed)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:04d}{suffix}")
    return root


def wish(source: Path, root: Path, **settings: Any) -> Recipe:
    """Ask for a short, exact run on one thread; settings that are mappings are laid over those here."""
    values: dict[str, Any] = {
        "data": {"source": str(source)},
        "run": {"root": root, "report": False, "tensorboard": False},
        "epochs": 2,
        "batch_size": 16,
        "model": "cifar_resnet8",
        "precision": "fp32",
        "threads": 1,
    }
    for name, value in settings.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return Recipe.parse(values)


def numbers(folder: Path, table: str) -> list[dict[str, str]]:
    """A table of a run without what the clock decides."""
    timed = {"seconds", "images_per_second", "peak_memory_mb", "train_seconds", "data_wait_seconds"}
    return [{k: v for k, v in row.items() if k not in timed} for row in read_table(folder / table)]


def stopped_and_resumed(
    recipe: Any, folder: Path, stop_at: int, *, model: Any = None, between: Callable[[], None] = lambda: None
) -> None:
    """Train, stop after a step as a signal would, and go on to the end; `between` happens before that."""
    stop = StopRequest()

    class Stopper:
        def hear(self, event: Event) -> None:
            if isinstance(event, StepTaken) and event.tried == stop_at:
                stop.signal = signal.SIGTERM

        def close(self) -> None:
            pass

    with pytest.raises(Interrupted):
        train(recipe, listeners=[Stopper()], stop=stop, model=model)
    between()
    resume(folder, model=model)
