"""Weight files: safetensors with a seal over every byte, and a guarded way in for PyTorch files.

A sealed file is an ordinary safetensors file. Its metadata holds one entry, `halftone`, a JSON object that
begins with `sha256`: the hash of the whole file with those 64 digits set to zero. Neither safetensors nor
`torch.load` notice a flipped bit; the seal does, wherever it falls.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from halftone.base.crash import crash_point
from halftone.base.errors import ModelFileError, NewerFormat
from halftone.base.files import atomic, parse_json
from halftone.version import __version__
from halftone.weights.pytorch import load_pytorch

FORMAT = 1
"""Version of the header's layout. Higher ones are refused by name."""
_UNSEALED = "0" * 64
_SEAL = re.compile(rb'\{\\"sha256\\":\\"([0-9a-f]{64})\\",\\"format\\":')
_LARGEST_HEADER = 16 << 20
"""Bytes. A checkpoint of a network of 1202 layers has 5 MB; the bound keeps a hostile file from filling the memory."""


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """What a file held."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    """What halftone wrote beside the tensors; empty for other files."""


def save_sealed(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to a sealed file, atomically.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    own = {"sha256": _UNSEALED, "format": FORMAT, "made_by": __version__}
    text = json.dumps({**own, **header}, separators=(",", ":"), allow_nan=False)
    with atomic(path) as temporary:
        try:
            save_file(_separate(tensors), temporary, metadata={"halftone": text})
        except SafetensorError as error:
            raise OSError(getattr(error, "errno", None) or _errno(error), str(error)) from error
        crash_point()
        _seal(temporary)


def save_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file with nothing beside them, atomically.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    with atomic(path) as temporary:
        try:
            save_file(_separate(tensors), temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(_errno(error), str(error)) from error


def save_pytorch(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a state_dict for `torch.load`, atomically.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    with atomic(path) as temporary:
        torch.save(_separate(tensors), temporary)


def _errno(error: Exception) -> int:
    """The library reports the system's error as text: "... (os error 28)"."""
    match = re.search(r"os error (\d+)", str(error))
    return int(match[1]) if match else 5


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor memory of its own, in the plain layout, on the CPU."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        if plain.data_ptr() in seen or plain.untyped_storage().nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(plain.data_ptr())
        separate[name] = plain
    return separate


def _seal(path: Path) -> None:
    """Put the hash of a file that was written without one in its place.

    Raises:
        ModelFileError: the header has become too long to be read again.
    """
    found = _SEAL.search(_raw_header(path))
    assert found is not None
    position = 8 + found.start(1)
    digest = _digest(path, position)
    with path.open("r+b") as file:
        file.seek(position)
        file.write(digest.encode())


def _raw_header(path: Path) -> bytes:
    """Return the JSON at the beginning of a safetensors file.

    Raises:
        ModelFileError: it claims to be longer than the file, or than any that is read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, _LARGEST_HEADER):
            raise ModelFileError(
                f"{path} claims a header of {length} bytes; it has {size}, and at most {_LARGEST_HEADER} are read"
            )
        return file.read(length)


def _digest(path: Path, position: int) -> str:
    """Hash the file as if the 64 digits at a position were zeros."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        hasher.update(file.read(position))
        file.seek(64, 1)
        hasher.update(_UNSEALED.encode())
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def load_sealed(path: Path) -> StoredWeights:
    """Read a file that halftone wrote, after checking its seal.

    Raises:
        ModelFileError: missing, not sealed, damaged, or of a newer format.
    """
    stored = load_weights(path)
    if not stored.header:
        raise ModelFileError(f"{path} was not written by halftone", hint="name a run folder, or one of its files")
    return stored


def stored_header(path: Path) -> dict[str, Any]:
    """Return what halftone wrote beside the tensors of a file, unchecked; empty for a file of any other origin.

    Raises:
        ModelFileError: it claims to be one of halftone's and its header makes no sense.
    """
    if not path.is_file() or not (path.suffix == ".safetensors" or _looks_like_safetensors(path)):
        return {}
    try:
        metadata = parse_json(_raw_header(path)).get("__metadata__", {})
    except (ValueError, AttributeError):
        return {}  # whoever reads the file will say what is wrong with it
    return _own_header(path, metadata["halftone"]) if "halftone" in metadata else {}


def load_weights(path: Path) -> StoredWeights:
    """Read a weight file of any origin: a sealed one, plain safetensors, or a PyTorch file with only tensors.

    Raises:
        ModelFileError: missing, damaged, unsafe, or not a weight file.
        ResourceError: a PyTorch file, which the installed PyTorch is too old to read safely.
    """
    try:
        if not path.is_file():
            raise ModelFileError(f"{path} is no file" if path.exists() else f"there is no weight file {path}")
        if path.suffix == ".safetensors" or _looks_like_safetensors(path):
            return _load_safetensors(path)
        return StoredWeights(load_pytorch(path), {})
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _load_safetensors(path: Path) -> StoredWeights:
    raw = _raw_header(path)
    found = _SEAL.search(raw)
    if found is not None and _digest(path, 8 + found.start(1)) != found[1].decode():
        raise ModelFileError(
            f"{path} is damaged: its content does not match its SHA-256", hint="restore it, or use another file"
        )
    try:
        tensors = load_file(path, device="cpu")
        metadata = parse_json(raw).get("__metadata__", {})
    except (SafetensorError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}") from error
    if "halftone" not in metadata:
        return StoredWeights(tensors, {})
    if found is None:
        raise ModelFileError(f"{path} is damaged: its SHA-256 is missing", hint="restore it, or use another file")
    return StoredWeights(tensors, _own_header(path, metadata["halftone"]))


def _own_header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise ModelFileError(f"{path} has a header that is not JSON: {error}") from error
    version = header.pop("format", None) if isinstance(header, dict) else None
    if not isinstance(version, int):
        raise ModelFileError(f"{path} has a header without a format")
    made_by = header.pop("made_by", None)
    if version > FORMAT:
        maker = f", made by halftone {made_by}" if isinstance(made_by, str) else ""
        raise NewerFormat(
            f"{path} has format {version}{maker}; this is halftone {__version__}, which reads up to {FORMAT}",
            hint="update halftone",
        )
    header.pop("sha256", None)
    return header
