"""Networks from a file of the user's."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from halftone.base.errors import HalftoneError, ModelFileError, RecipeError
from halftone.models.build import build_model, native_input
from halftone.models.own import build_own, is_own

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels=3, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.drop(self.conv(x).mean((2, 3))))
"""


def write(folder: Path, text: str, name: str = "net.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def build(path: Path, name: str = "Net", *, channels: int = 3) -> nn.Module:
    return build_own(f"{path}:{name}", num_classes=5, channels=channels)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("net.py:Net", True),
        ("a/b.py:make", True),
        ("C:\\nets\\net.py:Net", True),
        ("net.py", False),
        ("resnet18", False),
    ],
)
def test_names(name: str, own: bool) -> None:
    assert is_own(name) == own
    if own:
        assert native_input(name) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_class(tmp_path: Path, channels: int) -> None:
    path = write(tmp_path, NET)
    built = build_model(f"{path}:Net", num_classes=5, channels=channels, size=8, dropout=0.125)
    assert built.module(torch.rand(2, channels, 8, 8)).shape == (2, 5)
    assert (built.head, built.stem) == (("head",), ("conv",))
    assert built.module.get_submodule("drop").p == 0.125


def test_functions_get_the_arguments_they_have(tmp_path: Path) -> None:
    text = (
        "def fixed(): return Net(5)\n"
        "def classes(num_classes): return Net(num_classes)\n"
        "def everything(**options): return Net(**options)\n"
        "def more(in_channels, num_classes, width=9): return Net(num_classes, in_channels, width)\n"
        "ready = Net(5)\n"
        "from functools import partial\n"
        "wide = partial(Net, width=32)\n"
    )
    path = write(tmp_path, NET + text)
    for name in ("fixed", "classes", "everything", "more", "ready", "wide"):
        assert build(path, name)(torch.rand(1, 3, 8, 8)).shape == (1, 5), name
    assert build(path, "everything", channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 5)


def test_a_home_and_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, NET)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert isinstance(build(Path("~/net.py")), nn.Module)
    assert isinstance(build(Path("net.py")), nn.Module)


def test_files_beside_it_can_be_imported_and_hide_nothing(tmp_path: Path) -> None:
    write(tmp_path, NET, "halftone_test_layers.py")
    write(tmp_path, "raise AssertionError('hides a module of Python')", "colorsys.py")
    path = write(tmp_path, "import colorsys\nfrom halftone_test_layers import Net\n")
    before = list(sys.path)
    try:
        assert isinstance(build(path), nn.Module)
    finally:
        sys.modules.pop("halftone_test_layers", None)
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "name", "words", "hint"),
    [
        ("", "Net", "defines no 'Net'; it has nothing to call", ""),
        (NET, "Nets", "it has Net", "'Net'"),
        (NET, "nn", "defines no 'nn'", ""),
        ("x = 3", "x", "defines no 'x'", ""),
        ("1 / 0", "Net", "fails: ZeroDivisionError: division by zero", "--debug"),
        ("def f(:", "f", "fails: SyntaxError", "--debug"),
        ("import not_there_at_all", "Net", "fails: ModuleNotFoundError", "--debug"),
        ("import sys; sys.exit(3)", "Net", "fails: SystemExit: 3", "--debug"),
        ("raise ValueError('two\\nlines')", "Net", "ValueError: two lines", "--debug"),
        ("def f(path): pass", "f", "cannot be built: TypeError: .*'path'", "default"),
        ("def f(): raise RuntimeError('no')", "f", "cannot be built: RuntimeError: no", "default"),
        ("def f(): raise SystemExit", "f", "cannot be built: SystemExit", "default"),
        ("f = type", "f", "cannot be built", "default"),
    ],
)
def test_faults_of_the_file(tmp_path: Path, text: str, name: str, words: str, hint: str) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        build(write(tmp_path, text), name)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("text", "kind"), [("def f(): return 3", "int"), ("def f(): pass", "NoneType")])
def test_what_is_no_module_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(RecipeError, match=f"gives a {kind}; it must be a torch.nn.Module"):
        build(write(tmp_path, text), "f")


def test_errors_that_speak_for_themselves_pass(tmp_path: Path) -> None:
    text = "from halftone.base.errors import ResourceError\nraise ResourceError('no key')"
    with pytest.raises(HalftoneError, match=r"^no key$"):
        build(write(tmp_path, text))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.py"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(ModelFileError, match="there is no file"):
        build(path)


def test_a_wrong_number_of_outputs_is_found_before_training(tmp_path: Path) -> None:
    path = write(tmp_path, NET + "\ndef stubborn(): return Net(1000)\n")
    with pytest.raises(RecipeError, match=r"gives \[2, 1000\].*\[2, 5\], one per class"):
        build_model(f"{path}:stubborn", num_classes=5, channels=3, size=8, dropout=None)


def test_dropout_where_there_is_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, NET.replace("nn.Dropout(0.5)", "nn.Identity()"))
    with pytest.raises(RecipeError, match="no dropout layer"):
        build_model(f"{path}:Net", num_classes=5, channels=3, size=8, dropout=0.5)
