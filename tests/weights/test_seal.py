"""Sealed files: no bit changes unnoticed, and nothing that calls itself a weight file does harm."""

import json
import os
import random
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from halftone.base.errors import ModelFileError, ResourceError
from halftone.weights import files
from halftone.weights.files import load_sealed, load_weights, save_sealed

TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3), "steps": torch.tensor(7)}
HEADER = {"kind": "model", "card": {"classes": ['{"sha256":"' + "0" * 64 + '","format":', "café", "<script>"]}}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_sealed(path, TENSORS, HEADER)
    return path


def by_hand(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """Write a safetensors file from its parts."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_round_trip(sealed: Path) -> None:
    stored = load_sealed(sealed)
    assert stored.header == HEADER
    assert stored.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(stored.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert load_weights(sealed).header == HEADER
    assert [entry.name for entry in sealed.parent.iterdir()] == [sealed.name]


def test_any_other_program_reads_it(sealed: Path) -> None:
    assert torch.equal(load_file(sealed)["a.weight"], TENSORS["a.weight"])


def test_the_same_content_gives_the_same_file(sealed: Path, tmp_path: Path) -> None:
    other = tmp_path / "again.safetensors"
    save_sealed(other, TENSORS, HEADER)
    assert other.read_bytes() == sealed.read_bytes()


def test_D19_every_flipped_bit_is_noticed(sealed: Path) -> None:
    content = sealed.read_bytes()
    positions = random.Random(0).sample(range(len(content) * 8), 400)
    header_bits = 8 * (8 + struct.unpack("<Q", content[:8])[0])
    assert sum(position < header_bits for position in positions) > 100
    assert sum(position >= header_bits for position in positions) > 10
    passed = []
    for position in positions:
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        sealed.write_bytes(damaged)
        for load in (load_sealed, load_weights):
            try:
                load(sealed)
                passed.append(position)
            except ModelFileError as error:
                assert error.exit_code == 4
                assert str(sealed) in str(error)
    assert passed == []


def test_D19_every_bit_of_the_seal_itself_is_guarded(sealed: Path) -> None:
    content = sealed.read_bytes()
    begin = content.index(b'"halftone"')
    for position in range(begin, begin + 110):
        damaged = bytearray(content)
        damaged[position] ^= 1
        sealed.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_weights(sealed)


def test_D18_every_truncation_is_noticed(sealed: Path) -> None:
    content = sealed.read_bytes()
    for percent in range(100):
        sealed.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(ModelFileError):
            load_weights(sealed)
    for missing in range(1, 9):
        sealed.write_bytes(content[:-missing])
        with pytest.raises(ModelFileError):
            load_weights(sealed)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ""])
@pytest.mark.parametrize("kind", ["empty", "folder", "fifo", "dangling", "missing", "loop", "socket"])
def test_D20_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    match kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "loop":
            path.symlink_to(path)
        case "socket":
            os.mknod(path, 0o140600)
    for load in (load_sealed, load_weights):
        with pytest.raises(ModelFileError, match="weights"):
            load(path)


def test_a_device_is_refused() -> None:
    with pytest.raises(ModelFileError, match="/dev/zero is no file"):
        load_weights(Path("/dev/zero"))


def test_what_may_not_be_read_is_named(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelFileError, match=r"cannot read .*: Permission denied"):
        load_weights(sealed)


def test_a_sealed_file_that_lost_its_seal_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path, metadata={"halftone": json.dumps({"format": 1})})
    with pytest.raises(ModelFileError, match="its SHA-256 is missing"):
        load_weights(path)


def test_D23_a_newer_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT", files.FORMAT + 1)
        save_sealed(path, TENSORS, {})
    with pytest.raises(
        ModelFileError, match=r"has format 2, made by halftone [\d.]+; this is halftone [\d.]+, which reads up to 1"
    ) as caught:
        load_sealed(path)
    assert caught.value.hint == "update halftone"


@pytest.mark.parametrize("text", ["[1]", '"x"', "3", "null", "{", '{"sha256":"x"}', "[" * 100_000, '{"format":"1"}'])
def test_D28_a_resealed_header_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    """Whoever can write a file can seal it: the seal tells of accidents, not of intent."""
    with pytest.raises(ModelFileError):
        files._own_header(tmp_path / "w.safetensors", text)


def test_plain_safetensors_of_others_load(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}, {"recipe": json.dumps({"sha256": "1" * 64, "models": 2})}):
        path = tmp_path / "other.safetensors"
        save_file(TENSORS, path, metadata=metadata)
        stored = load_weights(path)
        assert stored.header == {}
        assert torch.equal(stored.tensors["a.weight"], TENSORS["a.weight"])
        with pytest.raises(ModelFileError, match="was not written by halftone"):
            load_sealed(path)


def test_content_counts_not_the_name(sealed: Path) -> None:
    for name in ("weights.bin", "weights.pt", "weights"):
        other = sealed.with_name(name)
        other.write_bytes(sealed.read_bytes())
        assert load_sealed(other).header == HEADER


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ({"a": ENTRY}, b"\0" * 8, 2**63),
        ({"a": ENTRY}, b"\0" * 8, 2**64 - 1),
        ({"a": ENTRY}, b"\0" * 8, 100 << 20),
        ({"a": ENTRY}, b"\0" * 8, 1000),
        ({"a": ENTRY}, b"\0" * 8, 3),
        ({"a": ENTRY}, b"\0" * 12, None),
        ({"a": ENTRY}, b"\0" * 4, None),
        ({"a": ENTRY, "b": ENTRY}, b"\0" * 8, None),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12, None),
        ({"a": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12, None),
        ({"a": {**ENTRY, "data_offsets": [8, 0]}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "shape": [-2]}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "shape": [2**62, 8]}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "shape": [2**40]}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "shape": [3]}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "shape": "2"}}, b"\0" * 8, None),
        ({"a": {**ENTRY, "dtype": "F31"}}, b"\0" * 8, None),
        ({"a": 3}, b"", None),
        ([], b"", None),
        (b"{" * 5000, b"", None),
        (b'{"a":' * 5000, b"", None),
        (b"", b"", None),
        (b"{\xff}", b"", None),
        ({"__metadata__": {"halftone": 3}}, b"", None),
        ({"__metadata__": [1]}, b"", None),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_D27_malformed_safetensors_are_refused(
    tmp_path: Path, header: Any, data: bytes, length: int | None, name: str
) -> None:
    with pytest.raises(ModelFileError):
        load_weights(by_hand(tmp_path / name, header, data, length=length))


def test_D27_a_claimed_header_costs_no_memory(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "w.safetensors", {}, length=2**40)
    os.truncate(path, 1 << 30)  # a file with a hole: it takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError, match="claims a header of 1099511627776 bytes"):
        load_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


def test_a_header_too_long_to_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LARGEST_HEADER", 300)
    with pytest.raises(ModelFileError, match="claims a header"):
        save_sealed(tmp_path / "w.safetensors", TENSORS, {"long": "x" * 300})
    assert list(tmp_path.iterdir()) == []


def test_infinities_in_the_header_are_an_error_when_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save_sealed(tmp_path / "w.safetensors", TENSORS, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_survives_a_failed_save(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sealed.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise files.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(ResourceError, match="disk full"):
        save_sealed(sealed, {"b": torch.zeros(2)}, {})
    assert sealed.read_bytes() == before
    assert [entry.name for entry in sealed.parent.iterdir()] == [sealed.name]


def test_D6_a_full_disk_is_called_so(tmp_path: Path) -> None:
    script = """
import resource, signal, sys, torch
from pathlib import Path
from halftone.base.errors import ResourceError
from halftone.weights.files import load_sealed, save_sealed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
save_sealed(path, {"a": torch.zeros(10)}, {"first": True})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_sealed(path, {"a": torch.zeros(100_000)}, {})
except ResourceError as error:
    print(error)
assert load_sealed(path).header == {"first": True}
"""
    command = [sys.executable, "-c", script, str(tmp_path / "w.safetensors")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "disk full while writing" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight


def test_tied_weights_and_views_come_back_apart(tmp_path: Path) -> None:
    network, whole = Tied(), torch.arange(10.0)
    tensors = {**network.state_dict(), "left": whole[:5], "right": whole[5:], "odd": whole[1::2], "all": whole}
    save_sealed(tmp_path / "w.safetensors", tensors, {"x": 1})
    loaded = load_sealed(tmp_path / "w.safetensors").tensors
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    again = Tied()
    again.load_state_dict({name: loaded[name] for name in again.state_dict()})
    assert again.second.weight is again.first.weight
    assert torch.equal(again.second.weight, network.first.weight)


def test_the_memory_layout_leaves_no_trace(tmp_path: Path) -> None:
    plain = torch.rand(4, 3, 5, 5)
    folder = tmp_path
    save_sealed(folder / "plain.safetensors", {"w": plain}, {"x": 1})
    save_sealed(folder / "last.safetensors", {"w": plain.to(memory_format=torch.channels_last)}, {"x": 1})
    assert (folder / "plain.safetensors").read_bytes() == (folder / "last.safetensors").read_bytes()
    assert torch.equal(load_sealed(folder / "last.safetensors").tensors["w"], plain)


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.bool),
    torch.complex64,
]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number_comes_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(dtype)
    save_sealed(tmp_path / "w.safetensors", {"w": tensor, "again": tensor}, {"x": 1})
    loaded = load_sealed(tmp_path / "w.safetensors").tensors["w"]
    assert (loaded.dtype, loaded.shape) == (dtype, tensor.shape)
    assert torch.equal(loaded.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_gradients_are_not_kept(tmp_path: Path) -> None:
    save_sealed(tmp_path / "w.safetensors", {"w": nn.Parameter(torch.ones(2))}, {"x": 1})
    assert not load_sealed(tmp_path / "w.safetensors").tensors["w"].requires_grad
