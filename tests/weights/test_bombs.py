"""Small files that would become large ones: each is refused, and the memory of the process stays where it was."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

GIGABYTE = 1 << 30
ALLOWED = 48 << 20
"""Bytes by which the peak may grow over what an ordinary file took; the smallest bomb would take 256 MB."""


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


_STORAGE = object()


class _OneStorage(pickle.Pickler):
    """Says of any storage that it has so many numbers."""

    count = 0

    def persistent_id(self, value: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", self.count, None) if value is _STORAGE else None


def lying_legacy(path: Path, count: int) -> None:
    """Write a file of PyTorch before 1.6 that announces more numbers than it holds."""
    out = io.BytesIO()
    for value in (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True}):
        pickle.dump(value, out, 2)
    pickler = _OneStorage(out, 2)
    pickler.count = count
    tensor = Calls(torch._utils._rebuild_tensor_v2, _STORAGE, 0, (count,), (1,), False, OrderedDict())
    pickler.dump({"w": tensor})
    pickle.dump(["0"], out, 2)
    path.write_bytes(out.getvalue() + struct.pack("<q", count) + b"\0" * 100)


def deflated(path: Path) -> None:
    """256 MB of zeros in 250 kB, which torch.load takes (fact 10 of the catalogue)."""
    whole = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith("/data/0"):
                target.writestr(entry.filename, source.read(entry))
        with target.open(entry.filename.split("/")[0] + "/data/0", "w") as record:
            for _ in range(256):
                record.write(b"\0" * (1 << 20))


def safetensors(path: Path, header: Any, *, length: int | None = None, size: int = 0) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 8)
    if size:
        os.truncate(path, size)  # a file with a hole: it takes no room on the disk


def make_bombs(folder: Path) -> None:
    deflated(folder / "deflated.pt")
    for name, content in {
        "bytearray": Calls(bytearray, GIGABYTE),
        "storage": Calls(torch.FloatStorage, GIGABYTE),
        "typed": Calls(torch.storage.TypedStorage, GIGABYTE),
        "untyped": Calls(torch.UntypedStorage, GIGABYTE),
        "repeated": torch.ones(1).expand(1 << 40),
        "zeros": Calls(torch.zeros, GIGABYTE),
    }.items():
        torch.save({"w": content}, folder / f"{name}.pt")
        torch.save({"w": content}, folder / f"{name}-legacy.pt", _use_new_zipfile_serialization=False)
    for count in (10**9, 10**13):
        lying_legacy(folder / f"lying-{count}.pt", count)
    (folder / "long-string.pt").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 44) + b"x")
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    safetensors(folder / "claims.safetensors", {"a": entry}, length=100 << 20, size=200 << 20)
    safetensors(folder / "shape.safetensors", {"a": {**entry, "shape": [1 << 40]}})
    safetensors(folder / "offsets.safetensors", {"a": {**entry, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    safetensors(folder / "lists.safetensors", b'{"__metadata__":[' + b"[]," * 5_000_000 + b"[]]}")
    inside = '{"sha256":"' + "0" * 64 + '","format":1,"card":[' + "[]," * 4_000_000 + "[]]}"
    save_file({"a": torch.ones(2)}, folder / "inside.safetensors", metadata={"halftone": inside})
    laughs = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
    )
    (folder / "laughs.yaml").write_text(laughs)
    (folder / "large.yaml").write_bytes(b"a: 1\n" * 4_000_000)
    (folder / "lists.json").write_text("[" + "[]," * 5_000_000 + "[]]")
    (folder / "deep.json").write_text("[" * 15_000_000)
    with (folder / "long.json").open("wb") as file:
        file.truncate(GIGABYTE // 2)


READ = """
import sys
from pathlib import Path
from halftone.base.errors import HalftoneError
from halftone.base.files import read_json
from halftone.base.records import read_yaml
from halftone.weights.files import load_weights, stored_header

def memory(line):
    words = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(line)).split()
    return int(words[1]) * 1024

def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")

def refused(read, path):
    try:
        read(path)
    except HalftoneError as error:
        return f"{type(error).__name__}"
    return "read"

readers = {".yaml": [read_yaml], ".json": [read_json], ".safetensors": [stored_header, load_weights]}
folder = Path(sys.argv[1])
load_weights(folder.parent / "good.pt"), load_weights(folder.parent / "good.safetensors")
for path in sorted(folder.iterdir()):
    before = forget_peak()
    said = [refused(read, path) for read in readers.get(path.suffix, [load_weights])]
    print(path.name, said[-1], memory("VmHWM") - before)
before = forget_peak()
len(bytes(range(256)) * (1 << 19))
print("control", "read", memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of its memory from Linux")
def test_D26_D27_bombs_cost_no_memory(tmp_path: Path) -> None:
    torch.save({"w": torch.rand(1 << 20)}, tmp_path / "good.pt")
    save_file({"w": torch.rand(1 << 20)}, tmp_path / "good.safetensors")
    folder = tmp_path / "bombs"
    folder.mkdir()
    make_bombs(folder)
    command = [sys.executable, "-c", READ, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    *rows, control = [line.split() for line in done.stdout.splitlines()]
    assert int(control[2]) > 2 * ALLOWED  # what is measured here does grow where memory is taken
    assert len(rows) == len(list(folder.iterdir())) == 26
    for name, said, grown in rows:
        assert said in ("ModelFileError", "RecipeError"), name
        assert int(grown) < ALLOWED, (name, grown)
