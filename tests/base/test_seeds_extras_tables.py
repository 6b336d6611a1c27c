"""The small rooms of the ground floor: streams of randomness, optional packages, tables, input specifications."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from halftone.base.errors import ModelFileError, RecipeError, ResourceError
from halftone.base.extras import require
from halftone.base.inputs import InputSpec
from halftone.base.seeds import fractions, stream_seed
from halftone.base.tables import read_table


@given(st.integers(-(2**63), 2**63), st.integers(0, 10**6))
def test_a_stream_is_its_name(seed: int, epoch: int) -> None:
    value = stream_seed(seed, "order", epoch)
    assert value == stream_seed(seed, "order", epoch)
    assert 0 <= value < 2**63
    assert value not in (stream_seed(seed + 1, "order", epoch), stream_seed(seed, "order", epoch + 1))
    assert value != stream_seed(seed, "augment", epoch)


def test_seeds_are_what_torch_and_numpy_take_and_never_change() -> None:
    torch.Generator().manual_seed(stream_seed(0, "torch"))
    np.random.Generator(np.random.PCG64(stream_seed(0, "numpy")))
    assert stream_seed(0, "order", 1) == 2961819992523135983  # a run of an older version must go on with its shuffles


def test_streams_look_independent() -> None:
    bits = np.array([[stream_seed(0, "order", epoch) >> bit & 1 for bit in range(63)] for epoch in range(400)])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.12  # five deviations of a mean of 400 fair coins


def test_fractions_are_even_and_independent() -> None:
    drawn = np.array([fractions(3, "crop", 0, position) for position in range(4000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.06


def test_fractions_follow_seed_and_name_alone() -> None:
    assert fractions(0, "crop", 1)[0] == 0.09762934276322455  # here, too: a resumed run goes on with its crops
    different = {fractions(0, "crop", 1), fractions(1, "crop", 1), fractions(0, "crop", 2), fractions(0, "flip", 1)}
    assert len(different) == 4


def test_F6_a_missing_package_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require("json", extra="hub").__name__ == "json"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError, match="needs the package 'datasets', which is not installed") as caught:
        require("datasets", extra="hub")
    assert caught.value.hint == 'pip install "halftone[hub]"'
    with pytest.raises(ResourceError, match="'no_such_package', which is not installed"):
        require("no_such_package.part", extra="hub")


def test_F6_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ResourceError, match="'broken_package', which cannot be imported: No module named 'no_such"):
        require("broken_package", extra="hub")


def test_D30_a_table_cut_anywhere_reads_to_its_last_whole_row(tmp_path: Path) -> None:
    content = b'step,loss\n1,0.5\n2,"0,25"\n3,\xff\n'
    path = tmp_path / "steps.csv"
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        whole = content[:end].count(b"\n") - 1
        rows = read_table(path)
        assert len(rows) == max(0, whole)
        assert [row["step"] for row in rows] == ["1", "2", "3"][: len(rows)]
    assert read_table(path)[1]["loss"] == "0,25"
    assert read_table(path)[2]["loss"] == "\udcff"


def test_a_table_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no results\.csv in"):
        read_table(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("a,b\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(ModelFileError, match="is damaged: field larger"):
        read_table(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("a,b\n1,2,3\n1\n1,2\n")
    assert read_table(tmp_path / "results.csv") == [{"a": "1", "b": "2"}]


def test_an_input_specification_survives_the_header_of_a_weight_file() -> None:
    spec = InputSpec(size=32, channels=1, mean=(0.5,), std=(0.25,), interpolation="bicubic", fit="squash", crop=0.875)
    assert InputSpec.model_validate_json(spec.model_dump_json()) == spec
    for wrong in ({"size": 0}, {"size": 5000}, {"channels": 2}, {"crop": 0.0}, {"crop": 1.5}, {"fit": "stretch"}):
        with pytest.raises(RecipeError, match="it must be"):
            spec.replaced(**wrong)
