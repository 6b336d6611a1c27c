"""Files of PyTorch: what is inside is found, and what is more than tensors stays outside."""

import argparse
import io
import os
import pickle
import random
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import ModelFileError, ResourceError
from halftone.weights import pytorch
from halftone.weights.files import load_weights

STATE = OrderedDict(
    {"conv.weight": torch.rand(2, 3, 3, 3), "conv.bias": torch.rand(2), "norm.num_batches_tracked": torch.tensor(3)}
)


def save(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def same(loaded: dict[str, torch.Tensor]) -> bool:
    return loaded.keys() == STATE.keys() and all(torch.equal(loaded[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        dict,
        lambda state: {
            name: nn.Parameter(value, requires_grad=value.is_floating_point()) for name, value in state.items()
        },
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {"epoch": 3, "arch": "resnet18", "state_dict": state, "best": 0.9, "extra": {"a", "b"}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"ema": state, "step": torch.tensor(4)},
        lambda state: {**state, "epoch": 3, "note": "mine", "list": [torch.ones(1)], "none": None},
    ],
)
def test_state_dicts_are_found(tmp_path: Path, wrap: Callable[[Any], Any], legacy: bool) -> None:
    stored = load_weights(save(tmp_path / "w.pt", wrap(STATE), legacy=legacy))
    assert stored.header == {}
    assert same(stored.tensors)


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.ckpt", "w", "w.pth.tar"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    assert same(load_weights(save(tmp_path / name, STATE)).tensors)


@pytest.mark.parametrize("legacy", [False, True])
def test_tied_weights_and_layouts(tmp_path: Path, legacy: bool) -> None:
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    content = {"a": weight, "b": weight, "part": weight[1:3], "half": weight.half(), "scalar": torch.tensor(2.0)}
    loaded = load_weights(save(tmp_path / "w.pt", content, legacy=legacy)).tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in content.items())


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], torch.ones(2), {"epoch": 3}, 3, None, {"state_dict": {}}])
def test_what_holds_no_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ModelFileError, match="holds no named tensors") as caught:
        load_weights(save(tmp_path / "w.pt", content))
    assert caught.value.hint == "save a state_dict()"


def test_a_whole_network_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"more than tensors \(torch.nn.modules.linear.Linear\)") as caught:
        load_weights(save(tmp_path / "w.pt", nn.Linear(2, 2)))
    assert "model.state_dict()" in caught.value.hint


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on PyTorch must not be asked: it would do what the file says."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.load was called")

    return lambda: monkeypatch.setattr(torch, "load", refuse)


def test_D26_compressed_records_are_refused(tmp_path: Path, unopened: Callable[[], None]) -> None:
    """Fact 10 of the catalogue: 250 kB that become 256 MB."""
    plain, bomb = save(tmp_path / "plain.pt", {"w": torch.zeros(16 << 20, dtype=torch.uint8)}), tmp_path / "bomb.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 50_000
    assert torch.load(bomb, weights_only=True)["w"].nbytes == 16 << 20  # as PyTorch takes it
    unopened()
    with pytest.raises(ModelFileError, match=r"compressed records \(.*\), which PyTorch never writes"):
        load_weights(bomb)


def make(path: Path, pickled: bytes, records: dict[str, bytes] | None = None) -> Path:
    """Write the archive of PyTorch around a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            **(records or {}),
        }.items():
            archive.writestr(f"archive/{name}", content)
    return path


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


BOMB = {"w": torch.ones(3), "x": Calls(bytearray, 1 << 20)}


@pytest.mark.parametrize("legacy", [False, True])
def test_D26_a_call_that_allocates_is_refused(tmp_path: Path, legacy: bool, unopened: Callable[[], None]) -> None:
    """PyTorch's safe mode allows `bytearray(n)`: a few bytes fill any memory."""
    path = save(tmp_path / "w.pt", {"w": Calls(bytearray, 1 << 20)}, legacy=legacy)
    assert len(torch.load(path, weights_only=True)["w"]) == 1 << 20
    unopened()
    with pytest.raises(ModelFileError, match=r"\((__builtin__|builtins).bytearray\)"):
        load_weights(path)


def records(content: Any) -> dict[str, bytes]:
    """Return what PyTorch writes into an archive, by name."""
    whole = io.BytesIO()
    torch.save(content, whole)
    with zipfile.ZipFile(whole) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def archive_of(content: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, record in content.items():
            archive.writestr(name, record)
    return whole.getvalue()


def test_D26_a_record_in_capital_letters_is_looked_over_too(tmp_path: Path, unopened: Callable[[], None]) -> None:
    """PyTorch finds `DATA.PKL` where it looks for `data.pkl`."""
    hidden = {name.replace("data.pkl", "DATA.PKL"): record for name, record in records(BOMB).items()}
    path = tmp_path / "w.pt"
    path.write_bytes(archive_of(hidden))
    assert len(torch.load(path, weights_only=True)["x"]) == 1 << 20
    unopened()
    with pytest.raises(ModelFileError, match="bytearray"):
        load_weights(path)


def two_archives(first: bytes, second: bytes, ending: str) -> bytes:
    """Return an archive in which zipfile finds the records of the second, and PyTorch those of the first.

    Args:
        first: an archive.
        second: another with records of the same names.
        ending: which of the three places that point to a directory tells PyTorch of the first.
    """

    def parts(archive: bytes) -> tuple[bytes, bytes, int, int]:
        number, size, begin = struct.unpack("<HII", archive[-12:-2])
        return archive[:begin], archive[begin : begin + size], number, begin

    entries, directory, number, begin = parts(first)
    other, other_directory, *_ = parts(second)
    size = len(directory)
    lies = _zip64(number, size, begin) if ending == "locator" else b""
    before = len(entries) + size + len(lies)
    found = before + len(other)  # where the second directory comes to stand
    moved = bytearray(other_directory)
    place = 0
    while place < size:  # Python adds what stands before the archive to where an entry begins
        lengths = struct.unpack_from("<HHH", moved, place + 28)
        (at,) = struct.unpack_from("<I", moved, place + 42)
        shift = before if ending == "locator" else before - (found - begin)
        struct.pack_into("<I", moved, place + 42, (at + shift) % 2**32)
        place += 46 + sum(lengths)
    whole = entries + directory + lies + other + bytes(moved)
    if ending != "end":
        pointed = begin if ending == "zip64" else found
        at = len(whole) if ending == "zip64" else len(entries) + size
        whole += _zip64(number, size, pointed) + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return whole + struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, number, number, size, begin if ending == "end" else found, 0
    )


def _zip64(number: int, size: int, begin: int) -> bytes:
    return struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, number, number, size, begin)


@pytest.mark.parametrize("ending", ["end", "zip64", "locator"])
def test_D26_an_archive_with_two_directories_is_refused(
    tmp_path: Path, unopened: Callable[[], None], ending: str
) -> None:
    """zipfile reads one of them, PyTorch the other."""
    bomb, harmless, path = archive_of(records(BOMB)), archive_of(records({"w": torch.ones(3)})), tmp_path / "w.pt"
    path.write_bytes(two_archives(bomb, harmless, ending))
    with zipfile.ZipFile(path) as archive:
        assert b"bytearray" not in archive.read("archive/data.pkl")
    assert len(torch.load(path, weights_only=True)["x"]) == 1 << 20
    unopened()
    for content in (path.read_bytes(), path.read_bytes() + b"a comment"):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="no plain archive"):
            load_weights(path)


def test_D26_records_that_share_their_bytes_are_refused(tmp_path: Path, unopened: Callable[[], None]) -> None:
    """Many records of a directory may lie in one place: PyTorch would read it as often."""
    whole = archive_of(records({"w": torch.zeros(1 << 14)}))
    number, size, begin = struct.unpack("<HII", whole[-12:-2])
    directory = whole[begin : begin + size]
    entry = next(part for part in directory.split(b"PK\1\2") if b"archive/data/0" in part)
    more = b"".join(b"PK\1\2" + entry.replace(b"archive/data/0", b"archive/data/%d" % n) for n in range(1, 9))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, number + 8, number + 8, size + len(more), begin, 0)
    path = tmp_path / "w.pt"
    path.write_bytes(whole[:begin] + directory + more + end)
    assert torch.load(path, weights_only=True)["w"].nbytes == 1 << 16
    unopened()
    with pytest.raises(ModelFileError, match="claims to hold more bytes than it has"):
        load_weights(path)


@pytest.mark.parametrize("field", [-50, -34, -6], ids=str)
def test_D26_an_archive_whose_end_points_elsewhere_is_refused(tmp_path: Path, field: int) -> None:
    """At each of its three places: PyTorch may ask another than zipfile."""
    path = save(tmp_path / "w.pt", STATE)
    content = bytearray(path.read_bytes())
    content[field] ^= 16
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_weights(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("looked_over", [True, False])
def test_D26_memory_that_is_not_in_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_over: bool
) -> None:
    """By the name of the call, and where that had been let through by the memory behind the tensors."""
    pickled = io.BytesIO()
    storage = Calls(torch.storage.TypedStorage, 10_000)
    rebuilt = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (10_000,), (1,), False, OrderedDict())
    pickle.dump({"w": rebuilt}, pickled, protocol=2)
    path = make(tmp_path / "w.pt", pickled.getvalue())
    assert torch.load(path, weights_only=True)["w"].nbytes == 40_000  # as PyTorch takes it
    if not looked_over:
        monkeypatch.setattr(pytorch, "_look_over", lambda path: set())
    with pytest.raises(
        ModelFileError, match="TypedStorage" if looked_over else "claims to hold more bytes than it has"
    ):
        load_weights(path)


def test_D26_a_view_that_repeats_itself_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", {"w": torch.ones(1).expand(1 << 40)})
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelFileError, match="repeats itself: w"):
        load_weights(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta"])
def test_numbers_of_other_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    tensor = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "meta": lambda: torch.ones(3, device="meta"),
    }[kind]()
    with pytest.raises(ModelFileError):
        load_weights(save(tmp_path / "w.pt", {"w": tensor}))


def test_a_compiled_network_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", STATE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("archive/code/net.py", "")
    with pytest.raises(ModelFileError):
        load_weights(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_give_one_error_or_the_tensors(tmp_path: Path, legacy: bool) -> None:
    """Nothing but our own error comes out, whatever the damage; a flipped weight cannot be seen in such a file."""
    path = save(tmp_path / "w.pt", STATE, legacy=legacy)
    content, choose = path.read_bytes(), random.Random(1)
    for _ in range(150):
        damaged = bytearray(content)
        position = choose.randrange(len(damaged) * 8)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            load_weights(path)
        except ModelFileError as error:
            assert "\n" not in str(error)
    for percent in range(100):
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(ModelFileError):
            load_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02", b"<html></html>", b"\x89PNG"),
        *(os.urandom(999), struct.pack("<Q", 4), b"\x80\x02}q\x00.", b"\x80\x04\x95", b"PK\x05\x06" + b"\0" * 18),
    ],
)
def test_what_is_no_weight_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"w\.pt"):
        load_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1+cu128", "1.13", "2.9.0a0"])
def test_F7_an_old_pytorch_is_not_trusted_with_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path = save(tmp_path / "w.pt", STATE)
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(ResourceError, match="CVE-2025-32434, CVE-2026-24747") as caught:
        load_weights(path)
    assert "2.10" in caught.value.hint


@pytest.mark.parametrize("version", ["2.10.0", "2.11.0+cpu", "3.0", "2.10.0a0"])
def test_F7_newer_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    path = save(tmp_path / "w.pt", STATE)
    monkeypatch.setattr(torch, "__version__", version)
    assert same(load_weights(path).tensors)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_scripts_save_beside_the_weights_is_never_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    built: list[str] = []
    place = ModuleType("lightning_fabric.utilities.data")

    class AttributeDict(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            built.append(key)
            super().__setitem__(key, value)

    AttributeDict.__module__, AttributeDict.__qualname__ = place.__name__, "AttributeDict"
    place.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    for name in ("lightning_fabric", "lightning_fabric.utilities"):  # without its parents it cannot be imported
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, place.__name__, place)
    beside = {
        "args": argparse.Namespace(lr=0.1, output=Path("out"), resume=PurePosixPath("in")),
        "hyper_parameters": AttributeDict(lr=0.1, nested=AttributeDict(depth=3)),
        "version": torch.torch_version.TorchVersion("2.10.0"),
    }
    path = save(tmp_path / "w.pt", {"state_dict": STATE, **beside}, legacy=legacy)
    built.clear()
    monkeypatch.setattr(argparse.Namespace, "__setattr__", lambda *_: built.append("namespace"))
    assert same(load_weights(path).tensors)
    assert built == []
    allowed = [str(entry) for entry in torch.serialization.get_safe_globals()]
    assert not any("Namespace" in entry or "AttributeDict" in entry for entry in allowed)  # now as before


def test_code_within_the_arguments_is_refused_all_the_same(tmp_path: Path, unopened: Callable[[], None]) -> None:
    path = save(tmp_path / "w.pt", {"state_dict": STATE, "args": argparse.Namespace(run=Calls(os.mkdir, "x"))})
    unopened()
    with pytest.raises(ModelFileError, match=r"\(posix.mkdir\)"):
        load_weights(path)


def test_weights_are_found_under_a_name_of_the_author_if_there_is_only_one(tmp_path: Path) -> None:
    state = dict(STATE)
    one = save(tmp_path / "one.pt", {"resnet": state, "epoch": 3, "optimizer": {"state": {}}})
    assert same(load_weights(one).tensors)
    for name, content in {"two": {"generator": state, "critic": state}, "none": {"resnet": {"lr": 0.1}}}.items():
        with pytest.raises(ModelFileError, match="holds no named tensors"):
            load_weights(save(tmp_path / f"{name}.pt", content))
