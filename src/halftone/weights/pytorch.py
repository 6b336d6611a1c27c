"""A guarded way in for PyTorch files: only tensors come out, no code runs, and no small file becomes a large one.

`torch.load(weights_only=True)` runs no code, but it allocates whatever a file tells it to: a few bytes can call
`bytearray(10**11)`, and a compressed record unpacks to any size. So each file is looked over before it is loaded.
"""

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from halftone.base.errors import ModelFileError, ResourceError

_SAFE = re.compile(
    r"collections (OrderedDict|Counter)"
    r"|torch\._utils (_rebuild_tensor|_rebuild_tensor_v2|_rebuild_parameter|_rebuild_parameter_with_state)"
    r"|torch(\.cuda)? [A-Za-z0-9]+Storage"
    r"|torch (Size|device|bool|(complex|float|bfloat|u?int)[0-9a-z_]+)"
    r"|torch\.nn\.parameter Parameter"
    r"|torch\.serialization _get_layout"
    r"|__builtin__ set|builtins set"
)
"""What a file of tensors, or a checkpoint around them, may name. Nothing here allocates more than the file holds."""
_BYSTANDERS = re.compile(
    r"argparse Namespace"
    r"|pathlib(\._local)? (Pure)?(Posix|Windows)?Path"
    r"|torch\.torch_version TorchVersion"
    r"|(lightning_fabric|lightning\.fabric|pytorch_lightning)\.utilities\.(data|parsing) AttributeDict"
)
"""What training scripts save beside the weights. None of it is built: something that does nothing takes its place."""
_LEGACY_PICKLES = 5
"""A file of PyTorch before 1.6 begins with: magic number, version, system, the object, the keys of its storages."""
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "params", "state_dict_ema", "ema")
_OLDEST_TORCH = (2, 10)
_END, _LOCATOR, _END_64 = 22, 20, 56
"""Bytes of the records at the end of an archive."""


class _Bystander:
    """Stands where a file has something that is no tensor; it takes anything and keeps nothing."""

    def __new__(cls, *_: Any) -> "_Bystander":
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_pytorch(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch file without running any code of it, and find the weights inside.

    Raises:
        ModelFileError: damaged, unsafe, or without named tensors.
        ResourceError: this PyTorch is too old to be trusted with it.
        OSError: it cannot be read.
    """
    _refuse_old_torch()
    try:
        bystanders = _look_over(path)
        replaced: list[Any] = [(_replacement(name), name.replace(" ", ".")) for name in bystanders]
        with warnings.catch_warnings(), torch.serialization.safe_globals(replaced):
            warnings.simplefilter("ignore")  # about the age of the file, which is no fault
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ModelFileError):
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelFileError(f"{path} is neither a whole PyTorch file nor safetensors: {reason}") from error
    tensors = _named_tensors(content)
    if not tensors:
        raise ModelFileError(f"{path} holds no named tensors", hint="save a state_dict()")
    for name, tensor in tensors.items():
        if not _is_plain(tensor):
            raise ModelFileError(f"{path} holds a tensor that is sparse, quantised or repeats itself: {name}")
    memory = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(memory.values()) > path.stat().st_size:
        raise ModelFileError(f"{path} claims to hold more bytes than it has; refused")
    return tensors


def _refuse_old_torch() -> None:
    """The safe mode of older versions could be broken out of."""
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST_TORCH:
        raise ResourceError(
            f"PyTorch {torch.__version__} cannot read PyTorch files safely (CVE-2025-32434, CVE-2026-24747)",
            hint="update to torch 2.10 or newer, or convert the file to safetensors",
        )


def _replacement(name: str) -> type:
    """Return what takes the place of a bystander: of a mapping that can be filled, a mapping."""
    return dict if name.endswith("AttributeDict") else _Bystander


def _look_over(path: Path) -> set[str]:
    """Refuse a file that names anything but tensors and bystanders, or that may unpack to more than its size.

    Returns:
        The names of the bystanders.
    """
    found: set[str] = set()
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if not zipped:
            for _ in range(_LEGACY_PICKLES):
                found |= _refuse_code(path, file)
            return found
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        compressed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        if compressed:
            raise ModelFileError(
                f"{path} holds compressed records ({compressed[0]}), which PyTorch never writes; refused"
            )
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ModelFileError(f"{path} claims to hold more bytes than it has; refused")
        _refuse_second_directory(path, archive.start_dir)
        for entry in entries:
            if entry.filename.lower().endswith(".pkl"):  # PyTorch finds its records in any case
                found |= _refuse_code(path, io.BytesIO(archive.read(entry)))
    return found


def _refuse_second_directory(path: Path, begin: int) -> None:
    """Refuse an archive in which PyTorch would find other records than those that were looked over.

    Python's zipfile takes the directory that stands right before the end of the archive, PyTorch the one that the end
    points to: in an archive that has two, neither sees what the other does.

    Args:
        path: the archive.
        begin: where its directory was found.
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _END_64 + _LOCATOR + _END), io.SEEK_END)
        rest = file.tell()
        tail = file.read()
    ends = [int.from_bytes(tail[-6:-2], "little")]
    if tail[-_END - _LOCATOR :].startswith(b"PK\x06\x07"):  # of archives that may be larger than 4 GB
        if int.from_bytes(tail[-_END - 12 : -_END - 4], "little") != rest:
            ends.append(-1)
        ends = [end for end in ends if end != 0xFFFFFFFF] + [int.from_bytes(tail[48:56], "little")]
    if not tail[-_END:].startswith(b"PK\x05\x06") or set(ends) != {begin}:
        raise ModelFileError(f"{path} is no plain archive: its end points elsewhere than to its records; refused")


def _refuse_code(path: Path, file: IO[bytes]) -> set[str]:
    """Read one pickle up to its end without doing what it says; return the names of its bystanders."""
    bystanders: set[str] = set()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            named = str(argument)
        elif operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            named = operation.name
        else:
            continue
        if _BYSTANDERS.fullmatch(named):
            bystanders.add(named)
        elif not _SAFE.fullmatch(named):
            raise ModelFileError(
                f"{path} wants to run code, or holds more than tensors ({named.replace(' ', '.')[:80]}); refused",
                hint="where you trust it, save its state_dict() alone: torch.save(model.state_dict(), FILE)",
            )
    return bystanders


def _named_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of the one inside a training checkpoint."""
    for _ in range(3):
        inner = _inside(content) if isinstance(content, dict) else None
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _inside(content: dict[Any, Any]) -> dict[Any, Any] | None:
    """Return the mapping that holds the weights of a checkpoint; None if they lie in the checkpoint itself."""
    known = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
    if known or _has_tensors(content):
        return known[0] if known else None
    # under a name of the author's own, if it is the only one; an optimizer's tensors lie deeper
    others = [value for value in content.values() if isinstance(value, dict) and _has_tensors(value)]
    return others[0] if len(others) == 1 else None


def _has_tensors(content: dict[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is dense numbers, each of which stands in memory."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return tensor.nbytes <= tensor.untyped_storage().nbytes()
