"""Published weights: fetched whole, checked by their hash, or refused; never from half a file."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import save_file
from torchvision import models

from halftone.base.errors import ModelFileError, ResourceError
from halftone.models import published, zoo
from halftone.models.published import fetch_hub, fetch_url
from halftone.models.zoo import published_weights

CONTENT = bytes(range(256)) * 40
HASH = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net-{HASH[:8]}.pth"


class Shelf:
    """A server of one file, with faults on request."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.claimed = len(CONTENT)
        self.status = 200
        self.requests: list[str] = []
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shelf.requests.append(self.path)
                self.send_response(shelf.status)
                self.send_header("Content-Length", str(shelf.claimed))
                self.end_headers()
                self.wfile.write(shelf.content)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{NAME}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    server = Shelf()
    yield server
    server.close()


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where somebody takes calls and never speaks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{NAME}"


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/{NAME}"


def test_D29_a_file_is_fetched_once(shelf: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "cache"
    file = fetch_url(shelf.url, folder)
    assert (file, file.read_bytes()) == (folder / NAME, CONTENT)
    assert fetch_url(shelf.url, folder) == file
    assert len(shelf.requests) == 1
    assert capfd.readouterr() == ("", "")


def test_D29_a_file_without_a_hash_in_its_name_is_fetched(shelf: Shelf, tmp_path: Path) -> None:
    assert fetch_url(shelf.url.replace(NAME, "net.pth"), tmp_path).read_bytes() == CONTENT


def cut(shelf: Shelf) -> None:
    shelf.content = CONTENT[:5000]


def other(shelf: Shelf) -> None:
    shelf.content = CONTENT[::-1]


def gone(shelf: Shelf) -> None:
    shelf.status = 404


def empty(shelf: Shelf) -> None:
    shelf.content, shelf.claimed = b"", 0


@pytest.mark.parametrize("fault", [cut, other, gone, empty])
def test_D29_what_is_not_whole_is_never_kept(shelf: Shelf, tmp_path: Path, fault: Callable[[Shelf], None]) -> None:
    fault(shelf)
    with pytest.raises(ResourceError, match=f"{NAME} cannot be had") as caught:
        fetch_url(shelf.url, tmp_path)
    assert caught.value.exit_code == 6
    assert str(tmp_path / NAME) in caught.value.hint
    assert shelf.url in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_D29_offline(nowhere: str, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be had") as caught:
        fetch_url(nowhere, tmp_path)
    assert str(tmp_path / NAME) in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_D29_a_silent_server_is_left(deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_PATIENCE", 0.2)
    start = time.monotonic()
    with pytest.raises(ResourceError, match="cannot be had"):
        fetch_url(deaf, tmp_path)
    assert time.monotonic() - start < 5


def test_D29_patience_stays_below_ten_seconds() -> None:
    assert 1 <= published._PATIENCE <= 10


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[::-1]])
def test_D29_a_damaged_file_in_the_cache_is_not_used(shelf: Shelf, tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ModelFileError, match="is not the published file") as caught:
        fetch_url(shelf.url, tmp_path)
    assert "remove it" in caught.value.hint
    assert (tmp_path / NAME).read_bytes() == content
    assert shelf.requests == []


def test_D29_a_cache_that_cannot_be_written(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be had"):
        fetch_url(shelf.url, tmp_path / "file" / "folder")


def test_every_network_of_torchvision_publishes_a_hash() -> None:
    for name in zoo.torchvision_names():
        url = models.get_model_weights(name).DEFAULT.url
        assert published._HASH_IN_NAME.search(Path(url).name), name


def test_weights_of_torchvision_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked: list[tuple[str, Path]] = []
    saved = tmp_path / "saved.pth"
    torch.save({"fc.weight": torch.ones(2)}, saved)

    def fetch(url: str, folder: Path) -> Path:
        asked.append((url, folder))
        return saved

    monkeypatch.setattr(zoo, "fetch_url", fetch)
    assert published_weights("resnet18")["fc.weight"].tolist() == [1, 1]
    [(url, folder)] = asked
    assert url.endswith("/resnet18-f37072fd.pth")
    assert folder == tmp_path / "hub" / "checkpoints"


def fill_hub(cache: Path, tensors: dict[str, torch.Tensor], *, name: str = "model.safetensors") -> Path:
    """Lay out the hub's cache as its client does; return the file that holds the content."""
    repository = cache / "models--timm--test_resnet.r160_in1k"
    made = cache / "made"
    cache.mkdir(parents=True, exist_ok=True)
    save_file(tensors, made)
    blob = repository / "blobs" / hashlib.sha256(made.read_bytes()).hexdigest()
    snapshot = repository / "snapshots" / ("c" * 40)
    for folder in (blob.parent, snapshot, repository / "refs"):
        folder.mkdir(parents=True)
    made.rename(blob)
    (snapshot / name).symlink_to(blob)
    (repository / "refs" / "main").write_text("c" * 40)
    return blob


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: str) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    return tmp_path / "hub"


def test_D29_weights_of_timm_come_from_the_cache_of_the_hub(hub: Path) -> None:
    tensors = {
        key: torch.rand_like(value.float()) for key, value in timm.create_model("test_resnet").state_dict().items()
    }
    fill_hub(hub, tensors)
    state = published_weights("timm:test_resnet.r160_in1k")
    assert torch.equal(state["fc.weight"], tensors["fc.weight"])
    assert state["fc.weight"].shape[0] == 1000


def test_D29_a_damaged_file_in_the_cache_of_the_hub_is_not_used(hub: Path) -> None:
    blob = fill_hub(hub, {"fc.weight": torch.ones(4)})
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not the published file"):
        published_weights("timm:test_resnet")


@pytest.mark.usefixtures("hub")
def test_D29_the_hub_offline() -> None:
    start = time.monotonic()
    with pytest.raises(ResourceError, match="does not answer") as caught:
        published_weights("timm:test_resnet")
    assert time.monotonic() - start < 10
    assert "--weights FILE" in caught.value.hint


@pytest.mark.usefixtures("hub")
def test_a_server_that_answers_at_all_is_asked(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", shelf.url)
    faults: list[tuple[Exception, Any]] = [
        (RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError), None),
        (LocalEntryNotFoundError("cut off"), ResourceError),
        (OSError("reset"), ResourceError),
    ]
    for status in (200, 404, 500):
        shelf.status = status
        for fault, expected in faults:

            def download(*_: Any, fault: Exception = fault, **__: Any) -> str:
                raise fault

            monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
            if expected is None:
                assert fetch_hub("timm/nothing", "model.safetensors") is None
            else:
                with pytest.raises(expected, match="published weights of timm/nothing"):
                    fetch_hub("timm/nothing@v2", "model.safetensors")


def test_networks_without_published_weights_say_so() -> None:
    with pytest.raises(ModelFileError, match="no published weights of timm:botnet50ts_256"):
        published_weights("timm:botnet50ts_256")
