"""D25: no code in a weight file ever runs."""

import builtins
import importlib
import operator
import os
import pickle
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.base.errors import ModelFileError
from halftone.weights.files import load_weights
from watching import watched


class Calls:
    """Pickles as a call of any function, which loading performs."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        call = (self.function, self.arguments)
        return call if self.state is None else (*call, self.state)


def touch(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda canary: Calls(os.system, f"touch {canary}"),
    "os.popen": lambda canary: Calls(os.popen, f"touch {canary}"),
    "os.mkdir": lambda canary: Calls(os.mkdir, str(canary)),
    "os.open": lambda canary: Calls(os.open, str(canary), os.O_CREAT),
    "os.symlink": lambda canary: Calls(os.symlink, "/", str(canary)),
    "os.mkfifo": lambda canary: Calls(os.mkfifo, str(canary)),
    "os.rename": lambda canary: Calls(os.rename, str(canary.with_name("bait")), str(canary)),
    "eval": lambda canary: Calls(eval, touch(canary)),
    "exec": lambda canary: Calls(exec, touch(canary)),
    "open": lambda canary: Calls(open, str(canary), "w"),
    "map": lambda canary: Calls(list, Calls(map, os.mkdir, [str(canary)])),
    "getattr": lambda canary: Calls(operator.call, imported_mkdir(), str(canary)),
    "subprocess.call": lambda canary: Calls(subprocess.call, ["touch", str(canary)]),
    "subprocess.Popen": lambda canary: Calls(subprocess.Popen, ["touch", str(canary)]),
    "subprocess.check_output": lambda canary: Calls(subprocess.check_output, ["touch", str(canary)]),
    "pathlib.touch": lambda canary: Calls(Path.touch, canary),
    "pathlib.write_text": lambda canary: Calls(Path.write_text, canary, "x"),
    "import_module": lambda canary: Calls(importlib.import_module, "halftone_canary_module"),
    "__import__": lambda canary: Calls(builtins.__import__, "halftone_canary_module"),
    "pickle.loads": lambda canary: Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, str(canary)))),
    "torch.save": lambda canary: Calls(torch.save, {}, str(canary)),
    "torch.hub": lambda canary: Calls(torch.hub.download_url_to_file, canary.with_name("bait").as_uri(), str(canary)),
    "torch.load": lambda canary: Calls(partial(torch.load, weights_only=False), str(canary.with_name("inner.pt"))),
    "state": lambda canary: Calls(dict, state=Calls(os.mkdir, str(canary))),
    "argument": lambda canary: Calls(len, Calls(os.mkdir, str(canary))),
    "webbrowser": lambda canary: Calls(webbrowser.GenericBrowser("touch").open, str(canary)),
    "nested": lambda canary: {"state_dict": {"w": [torch.ones(1), {"x": (Calls(os.mkdir, str(canary)),)}]}},
}


def imported_mkdir() -> Calls:
    return Calls(getattr, Calls(importlib.import_module, "os"), "mkdir")


def write_zip(path: Path, content: Any) -> None:
    torch.save(content, path)


def write_legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle_2(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_pickle_5(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=5))


def write_pickle_0(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=0))


def write_zip_5(path: Path, content: Any) -> None:
    torch.save(content, path, pickle_protocol=5)


UNHEARD = {"os.open", "os.mkfifo", "pathlib.touch", "torch.save"}
"""What Python reports without saying that it writes, or does not report: there the canary alone tells."""
CONTAINERS = [write_zip, write_zip_5, write_legacy, write_pickle_0, write_pickle_2, write_pickle_5]


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path that no harmless load creates, and the things that some payloads need."""
    path = tmp_path / "canary"
    (tmp_path / "bait").write_text("bait")
    (tmp_path / "halftone_canary_module.py").write_text(touch(path))
    torch.save({"x": Calls(os.mkdir, str(path))}, tmp_path / "inner.pt")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("halftone_canary_module", None)


def load_unsafely(path: Path, write: Callable[..., None]) -> None:
    if write in (write_zip, write_zip_5, write_legacy):
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())


@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_D25_code_is_refused(tmp_path: Path, canary: Path, name: str, write: Callable[[Path, Any], None]) -> None:
    payload = PAYLOADS[name](canary)
    content = payload if name == "nested" else {"weight": torch.ones(2), "bias": payload}
    if write in (write_pickle_0, write_pickle_2, write_pickle_5):
        content = payload if not isinstance(payload, dict) else {"bias": Calls(os.mkdir, str(canary))}
    path = tmp_path / "weights.pt"
    write(path, content)
    assert not canary.exists()
    with watched() as deeds, pytest.raises(ModelFileError) as caught:
        load_weights(path)
    assert caught.value.exit_code == 4
    assert not os.path.lexists(canary)
    assert deeds == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", CONTAINERS)
def test_D25_the_same_code_runs_where_nobody_refuses(
    tmp_path: Path, canary: Path, write: Callable[[Path, Any], None]
) -> None:
    """The control: the canary does appear."""
    path = tmp_path / "weights.pt"
    write(path, {"bias": Calls(os.mkdir, str(canary))})
    load_unsafely(path, write)
    assert canary.is_dir()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PAYLOADS)
def test_D25_the_payloads_are_real(tmp_path: Path, canary: Path, name: str) -> None:
    """Each of them, where nobody refuses: the canary appears, and whoever watches sees it coming."""
    path = tmp_path / "weights.pt"
    write_legacy(path, {"bias": PAYLOADS[name](canary)})
    with watched() as deeds, suppress(TypeError):  # one raises after the deed is done
        load_unsafely(path, write_legacy)
    for _ in range(100):  # some start a process and do not wait for it
        if os.path.lexists(canary):
            break
        time.sleep(0.02)
    assert os.path.lexists(canary)
    assert deeds or name in UNHEARD


def test_D25_an_extension_does_not_help(tmp_path: Path, canary: Path) -> None:
    for name in ("weights.safetensors", "weights.pth", "weights"):
        path = tmp_path / name
        write_pickle_2(path, Calls(os.mkdir, str(canary)))
        with pytest.raises(ModelFileError):
            load_weights(path)
    assert not canary.exists()
