"""A run that starts from another run's weights keeps what that run knew of classes with the same names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from halftone.run.prepare import prepare
from halftone.run.training import training
from halftone.weights.files import load_weights
from samples import stripes, wish


def write(path: Path, names: list[str], count: int) -> Path:
    images, labels = stripes(count, classes=len(names))
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels, classes=np.array(names))
    return path


@pytest.mark.parametrize(
    ("names", "rows", "said"),
    [
        (["Down", "new", "across"], {0: 2, 2: 0}, "head: 2 of 3 classes carried over by name (Down, across)"),
        (["aslant", "down", "across"], {0: 1, 1: 2, 2: 0}, "head: 3 of 3 classes carried over by name"),
        (["x", "y", "z"], {}, "fresh head (head.weight, head.bias)"),
    ],
)
def test_rows_of_known_classes(tmp_path: Path, names: list[str], rows: dict[int, int], said: str) -> None:
    first = write(tmp_path / "first.npz", ["across", "aslant", "down"], 48)
    for _ in training(wish(first, tmp_path, run={"name": "first"}, max_steps=2)):
        pass
    file = tmp_path / "first/best.safetensors"
    second = write(tmp_path / "second.npz", names, 48)
    fresh = prepare(wish(second, tmp_path)).built.module.state_dict()["head.weight"]
    prepared = prepare(wish(second, tmp_path, weights=file))
    stored, head = load_weights(file).tensors["head.weight"], prepared.built.module.state_dict()["head.weight"]
    for row in range(3):
        assert torch.equal(head[row], stored[rows[row]] if row in rows else fresh[row])
    assert said in prepared.plan.weights
