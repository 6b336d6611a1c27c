"""Weights that torchvision and timm publish: fetched once, kept in their libraries' own caches, never trusted unseen.

A file counts only if its SHA-256 is the one that was published: torchvision puts the first digits of it into
the file's name, the Hugging Face hub names its cached files by it. What fails the test is not loaded.
"""

import hashlib
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlparse

from halftone.base.errors import ModelFileError, ResourceError
from halftone.base.files import atomic, sha256

_PATIENCE = 8.0
"""Seconds that a server may stay silent."""
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def fetch_url(url: str, folder: Path) -> Path:
    """Return a published file from a folder, downloaded first if it is not there.

    Args:
        url: its name ends in the first digits of its SHA-256, as in `resnet18-f37072fd.pth`.
        folder: where it is kept.

    Raises:
        ModelFileError: the file in the folder is not the one that was published.
        ResourceError: it is not there and cannot be downloaded whole.
    """
    file = folder / Path(urlparse(url).path).name
    found = _HASH_IN_NAME.search(file.name)
    start_of_hash = found[1] if found else ""
    if not file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _download(url, file, start_of_hash)
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"the published weights {file.name} cannot be had: {_one_line(error)}",
                hint=f"put {url} at {file} by hand, or name a file of your own: --weights FILE",
            ) from error
    elif not sha256(file).startswith(start_of_hash):
        raise ModelFileError(
            f"{file} is damaged: it is not the published file", hint="remove it, and it is downloaded anew"
        )
    return file


def _download(url: str, file: Path, start_of_hash: str) -> None:
    """Download a file whole, or not at all.

    Raises:
        ValueError: what came is not what was published.
        OSError: the server cannot be reached.
        ResourceError: the disk is full, or the folder cannot be written.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "halftone"})  # noqa: S310
    hasher = hashlib.sha256()
    with _open(request) as answer, atomic(file) as temporary:
        with temporary.open("wb") as copy:
            while chunk := _read(answer):
                hasher.update(chunk)
                copy.write(chunk)
        if not hasher.hexdigest().startswith(start_of_hash):
            raise ValueError(f"what {url} gives is cut short, or not what was published")


def _open(request: urllib.request.Request) -> HTTPResponse:
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=_PATIENCE)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"the server says {error.code} {error.reason}") from None
    return answer


def _read(answer: HTTPResponse) -> bytes:
    """Read on; a fault of the network is not to be taken for one of the disk."""
    try:
        return answer.read(1 << 20)
    except (OSError, HTTPException) as error:
        raise ValueError(f"the server broke off: {_one_line(error)}") from error


def fetch_hub(repository: str, filename: str) -> Path | None:
    """Return a file of the Hugging Face hub from its cache, downloaded first if it is not there.

    Returns:
        The file, or None if the repository has none of that name.

    Raises:
        ModelFileError: the file in the cache is not the one that was published.
        ResourceError: it is not there and cannot be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    hint = f"put {filename} of {name} into {constants.HF_HUB_CACHE} where there is a network, or --weights FILE"
    cached = try_to_load_from_cache(name, filename, revision=revision or None)
    if not isinstance(cached, str):
        try:
            if not _answers(constants.ENDPOINT):
                raise ResourceError(f"the published weights of {name}: {constants.ENDPOINT} does not answer", hint=hint)
            cached = hf_hub_download(name, filename, revision=revision or None)
        except LocalEntryNotFoundError as error:  # the hub cannot be reached; a kind of the one below
            raise ResourceError(f"the published weights of {name}: {_one_line(error)}", hint=hint) from error
        except EntryNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ResourceError(f"the published weights of {name}: {_one_line(error)}", hint=hint) from error
    file = Path(cached)
    published = file.resolve().name
    if len(published) == hashlib.sha256().digest_size * 2 and sha256(file) != published:
        raise ModelFileError(
            f"{file.resolve()} is damaged: it is not the published file", hint="remove it, and it is downloaded anew"
        )
    return file


def _answers(url: str) -> bool:
    """Tell whether a server answers at all: the hub's own client tries for most of a minute."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:  # an answer, too
        error.close()
        return True
    except (OSError, ValueError, HTTPException):
        return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
