"""Wrong labels that were planted, and a run that was trained with them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from halftone.base.errors import DataError, ModelFileError
from halftone.data.config import DataConfig
from halftone.run.label_check import JudgedPart, check_labels
from halftone.verbs import train
from samples import stripes, wish

WRONG = np.random.default_rng(5).choice(1797, 90, replace=False)


def write_digits(path: Path) -> None:
    """The digits, 5 % of them under another label."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels[WRONG] = (labels[WRONG] + 1 + WRONG % 9) % 10
    np.savez(path, x_train=images, y_train=labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file, and the folder of a short run on it."""
    folder = tmp_path_factory.mktemp("labels")
    write_digits(folder / "digits.npz")
    recipe = wish(folder / "digits.npz", folder, epochs=5, batch_size=32, lr=0.1, data={"validation": 0.3})
    return folder / "digits.npz", train(recipe).path


def judged(run: Path, source: Path | str) -> dict[str, JudgedPart]:
    steps = list(check_labels(run, DataConfig(source=str(source))))
    assert all(0 < step.done <= step.total for step in steps)
    return {step.judged.part: step.judged for step in steps if step.judged is not None}


def test_most_wrong_labels_are_found_and_few_right_ones(trained: tuple[Path, Path]) -> None:
    parts = judged(trained[1], trained[0])
    assert {name: part.trained_on for name, part in parts.items()} == {"train": "yes", "validation": "no"}
    planted = {f"train-{number:05d}" for number in WRONG.tolist()}
    for part in parts.values():
        there = planted & {part.images.name(index) for index in range(part.num_judged)}
        named = {error.name for error in part.errors}
        assert len(there) > 15
        assert len(named & there) >= 0.6 * len(there)
        assert len(named & there) >= 0.7 * len(named)
        assert 0.85 < part.agreement < 0.97
        beliefs = [error.given_probability for error in part.errors]
        assert beliefs == sorted(beliefs)
        assert all(error.probability > error.given_probability for error in part.errors)
    truth = load_digits().target
    named_and_planted = [error for error in parts["validation"].errors if error.name in planted]
    right = sum(int(error.suggested) == truth[int(error.name[-5:])] for error in named_and_planted)
    assert right >= 0.9 * len(named_and_planted)


def test_what_is_said_of_images_that_were_trained_on(trained: tuple[Path, Path]) -> None:
    parts = judged(trained[1], trained[0])
    assert "by heart" in " ".join(parts["train"].remarks())
    assert "not trained on" in " ".join(parts["validation"].remarks())


def test_data_that_changed_since(trained: tuple[Path, Path]) -> None:
    """Whoever mends labels and looks again is not sent away, but told what is not known any more."""
    pixels, labels = load_digits(return_X_y=True)
    source, before = trained[0], trained[0].read_bytes()
    try:
        np.savez(source, x_train=np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), y_train=labels)
        parts = judged(trained[1], source)
    finally:
        source.write_bytes(before)
    assert {part.trained_on for part in parts.values()} == {"unknown"}
    assert sum(len(part.errors) for part in parts.values()) < 30


def test_other_data_was_not_trained_on(trained: tuple[Path, Path]) -> None:
    parts = judged(trained[1], "digits")
    assert {name: part.trained_on for name, part in parts.items()} == {"train": "no"}
    assert parts["train"].num_judged == 1797
    assert len(parts["train"].errors) < 40


def test_what_cannot_be_judged_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = stripes(12, size=8)
    classes = np.array(["0", "1", "many"])
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, classes=classes)
    with pytest.raises(DataError, match="classes that the model does not know: many"):
        list(check_labels(trained[1], DataConfig(source=str(tmp_path / "other.npz"))))
    with pytest.raises(ModelFileError, match="not a run folder"):
        list(check_labels(tmp_path, DataConfig(source="digits")))
