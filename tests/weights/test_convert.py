"""Names without wrappers, and rounding with its loss stated."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from halftone.base.errors import ResourceError
from halftone.weights import files
from halftone.weights.convert import rounded, without_wrappers
from halftone.weights.files import load_weights, save_plain, save_pytorch

ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("names", "cut", "removed"),
    [
        (["module.a", "module.b.c"], ["a", "b.c"], "module."),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"], "module._orig_mod."),
        (["model.module.a"], ["a"], "model.module."),
        (["module.a", "b"], ["module.a", "b"], ""),
        (["modulus.a"], ["modulus.a"], ""),
        (["module."], ["module."], ""),
        ([], [], ""),
    ],
)
def test_wrappers_go_where_all_names_have_them(names: list[str], cut: list[str], removed: str) -> None:
    found = without_wrappers(dict.fromkeys(names, ONE))
    assert (list(found[0]), found[1]) == (cut, removed)


@given(arrays.arrays(np.float32, 30, elements=some.floats(-60000, 60000, width=32)))
def test_errors_are_those_of_numpy(array: np.ndarray) -> None:
    converted, loss = rounded({"w": torch.from_numpy(array)}, torch.float16)
    with np.errstate(under="ignore"):
        half = array.astype(np.float16)
    assert np.array_equal(converted["w"].numpy(), half)
    away = np.abs(half.astype(np.float64) - array)
    assert loss.largest_error == pytest.approx(away.max())
    assert loss.num_underflow == ((half == 0) & (array != 0)).sum()
    assert loss.num_overflow == 0
    normal = np.abs(array) >= np.finfo(np.float16).tiny
    assert loss.largest_relative == pytest.approx((away[normal] / np.abs(array[normal])).max(initial=0))
    assert loss.largest_relative <= 2**-11


def test_overflow_is_counted_and_left_out_of_the_errors() -> None:
    tensors = {"a": torch.tensor([70000.0, -1e9, math.inf, math.nan, 1.0]), "b": torch.tensor([1 + 2**-12])}
    _, loss = rounded(tensors, torch.float16)
    assert loss.num_overflow == 2
    assert (loss.largest_error, loss.largest_error_in) == (2**-12, "b")
    assert rounded(tensors, torch.bfloat16)[1].num_overflow == 0


def test_whole_numbers_and_what_fits_already_stay() -> None:
    tensors = {"n": torch.tensor(70000), "h": torch.ones(2).half()}
    converted, loss = rounded(tensors, torch.float16)
    assert converted == tensors
    assert (loss.num_converted, loss.largest_error, loss.largest_error_in) == (0, 0.0, "")
    wide, loss = rounded(tensors, torch.float32)
    assert (wide["h"].dtype, loss.num_converted, loss.largest_error) == (torch.float32, 1, 0.0)


@pytest.mark.parametrize("save", [save_plain, save_pytorch])
def test_both_kinds_of_file_come_back(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    shared = torch.rand(4, 4)
    tensors = {"a": shared, "b": shared, "part": shared[1:3], "turned": shared.t(), "half": shared.half()}
    path = tmp_path / ("w.safetensors" if save is save_plain else "w.pt")
    save(path, tensors)
    stored = load_weights(path)
    assert stored.header == {}
    assert stored.tensors.keys() == tensors.keys()
    assert all(torch.equal(stored.tensors[name], tensor) for name, tensor in tensors.items())
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_plain_pytorch_reads_what_is_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = torch.nn.Linear(3, 2)
    save_pytorch(tmp_path / "w.pth", network.state_dict())
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
    assert torch.equal(other.weight, network.weight)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("save", [save_plain, save_pytorch])
def test_D34_a_file_that_could_not_be_written_is_not_there(tmp_path, monkeypatch, save, error) -> None:  # type: ignore[no-untyped-def]
    """Nor is the one before it changed: it is written beside its place and renamed when it is whole."""
    path = tmp_path / ("w.safetensors" if save is save_plain else "w.pt")
    save(path, {"a": torch.ones(3)})
    before = path.read_bytes()

    def cut(_: object, place: Path, **__: object) -> None:
        place.write_bytes(before[: len(before) // 2])
        raise error

    monkeypatch.setattr(files, "save_file", cut)
    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(ResourceError if isinstance(error, OSError) else type(error)):
        save(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == [path.name]
