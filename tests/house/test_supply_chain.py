"""The package runs no code from data, asks nobody unasked, and stands on no version with a known hole."""

import re
import tomllib
from pathlib import Path

import pytest

import halftone
from house.supply_chain import IMPORTERS, OWN_CODE, RULES, SOCKETS, faults

SOURCE = Path(halftone.__file__).parent
ROOT = SOURCE.parents[1]


def test_no_line_of_the_package_does_what_none_may() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 150
    found = [fault for path in files for fault in faults(path.read_text("utf-8"), str(path.relative_to(SOURCE)))]
    assert found == []


@pytest.mark.parametrize("place", sorted(SOCKETS | OWN_CODE | IMPORTERS))
def test_an_exception_is_one_that_is_needed(place: str) -> None:
    assert faults((SOURCE / place).read_text("utf-8"), "elsewhere.py") != []


BAD = {
    "pickles": [
        "import pickle",
        "from pickle import loads as read",
        "import cloudpickle as c",
        "from joblib import load",
        "import marshal",
        "import shelve",
        "import pandas\npandas.read_pickle(x)",
        "def f():\n    import dill",
    ],
    "unguarded_torch_load": [
        "import torch\ntorch.load(x)",
        "import torch as t\nt.load(x, weights_only=False)",
        "from torch import load\nload(x, map_location='cpu')",
        "import torch\ntorch.load(x, weights_only=flag)",
        "import torch\ntorch.jit.load(x)",
    ],
    "unsafe_yaml": [
        "import yaml\nyaml.load(x)",
        "import yaml\nyaml.load(x, Loader=yaml.Loader)",
        "import yaml\nyaml.load(x, Loader=yaml.FullLoader)",
        "import yaml as y\ny.unsafe_load(x)",
        "from yaml import full_load\nfull_load(x)",
        "import yaml\nclass L(yaml.Loader): pass\nyaml.load(x, Loader=L)",
        "import yaml\nyaml.load_all(x, yaml.SafeLoader)",
    ],
    "pickled_arrays": [
        "import numpy as np\nnp.load(x)",
        "import numpy\nnumpy.load(x, allow_pickle=True)",
        "from numpy import load\nload(x)",
    ],
    "text_that_runs": [
        "eval(x)",
        "exec(x)",
        "compile(x, 'f', 'exec')",
        "__import__(x)",
        "import importlib\nimportlib.import_module(x)",
        "from importlib import import_module as get\nget(x)",
        "import importlib.util\nimportlib.util.spec_from_file_location('a', x)",
        "spec.loader.exec_module(module)",
        "import runpy\nrunpy.run_path(x)",
    ],
    "shells": [
        "import os\nos.system(x)",
        "from os import popen\npopen(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import subprocess as s\ns.getoutput(x)",
        "import os\nos.execvp(x, y)",
        "import os\nos.spawnl(0, x)",
    ],
    "guessable_files": ["import tempfile\ntempfile.mktemp()", "from tempfile import mktemp as m\nm()"],
    "connections": [
        "import requests",
        "import urllib.request",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import socket as s",
        "import http.client",
        "def f():\n    import httpx",
        "def f():\n    from huggingface_hub import hf_hub_download",
        "import torch\ntorch.hub.load('a', 'b')",
        "from torch.hub import load_state_dict_from_url as get\nget(x)",
    ],
    "unpacked_archives": ["archive.extractall(x)", "import shutil\nshutil.unpack_archive(x)"],
    "unescaped_pages": [
        "from jinja2 import Environment\nEnvironment(loader=x)",
        "import jinja2\njinja2.Environment(autoescape=False)",
        "from jinja2 import Template\nTemplate(x)",
    ],
    "asserted_guards": [
        "assert size < limit",
        "assert path.is_file()",
        "assert digest == expected",
        "assert x is not None and x > 0",
        "assert x",
        "assert not x",
    ],
    "swallowed_errors": [
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept BaseException:\n    log()",
        "try:\n    f()\nexcept BaseException as e:\n    return_(e)",
    ],
}
GOOD = """
import pickletools, re, subprocess, urllib.parse, torch, yaml, numpy as np
from jinja2 import Environment
class Strict(yaml.SafeLoader): pass
yaml.load(text, Loader=Strict); yaml.safe_load(text); yaml.safe_dump(values)
torch.load(path, weights_only=True); np.load(path, allow_pickle=False)
re.compile(x); torch.compile(model); model.eval(); load(path)
subprocess.run(["ls"], check=False); Environment(autoescape=True)
assert x is not None
assert isinstance(x, int) and y is None
assert mode != "auto"
assert not isinstance(padding, str)
try:
    f()
except Exception:
    pass
try:
    f()
except BaseException:
    clean()
    raise
try:
    f()
except BaseException as error:
    future.set_exception(error)
"""


def test_each_rule_has_something_to_find() -> None:
    assert set(BAD) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BAD.items() for text in texts])
def test_a_bad_line_is_found_by_its_rule(rule: str, text: str) -> None:
    found = faults(text, "somewhere.py")
    assert any(fault.startswith(f"{rule}: somewhere.py:") for fault in found), found


def test_good_lines_are_let_through() -> None:
    assert faults(GOOD, "somewhere.py") == []


HOLES = {
    "Jinja2": [("3.1.5", "CVE-2024-56326, a way out of the sandbox"), ("3.1.6", "CVE-2025-27516, another one")],
    "PyYAML": [("5.4", "CVE-2020-14343, code in full_load")],
    "mlflow": [("3.11", "CVE-2026-4137, temporary folders that others may write, and pickles read from them")],
    "pillow": [
        ("10.3.0", "CVE-2024-28219, a buffer overflow"),
        ("11.3.0", "CVE-2025-48379, a heap overflow in DDS"),
        ("12.1.1", "CVE-2026-25990, a write out of bounds in PSD"),
        ("12.2.0", "CVE-2026-42308, an integer overflow in fonts"),
        ("12.3.0", "CVE-2026-55798, CVE-2026-59197 to 59200: writes out of bounds and bombs"),
    ],
    "pydantic": [("2.4.0", "CVE-2024-3772, a regular expression that never ends")],
    "scikit-learn": [("1.5.0", "CVE-2024-5206, training data kept in a vectoriser")],
    "torch": [("2.6.0", "CVE-2025-32434, code in torch.load(weights_only=True)"), ("2.10", "CVE-2026-24747, again")],
}
"""By package: the first version without a hole, and its number."""


def parsed(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return tuple([*numbers, 0, 0, 0][:3])


def floors(text: str) -> dict[str, list[str]]:
    """Return the floor of each requirement in a pyproject.toml; an empty one where it has none."""
    project = tomllib.loads(text)["project"]
    needed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found: dict[str, list[str]] = {}
    for requirement in needed:
        name = re.split(r"[\[<>=!~ ]", requirement)[0]
        floor = re.search(r">=([\d.]+)", requirement)
        found.setdefault(name, []).append(floor[1] if floor else "")
    return found


def test_floors_are_above_known_holes() -> None:
    found = floors((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(HOLES) <= set(found)
    for name, holes in HOLES.items():
        for safe, hole in holes:
            for floor in found[name]:
                assert floor and parsed(floor) >= parsed(safe), f"{name} {floor or 'without a floor'}: {hole}"


def test_a_floor_below_a_hole_is_seen() -> None:
    text = '[project]\ndependencies = ["torch>=2.9", "pillow"]\n[project.optional-dependencies]\na = ["x[y]>=1.2"]\n'
    assert floors(text) == {"torch": ["2.9"], "pillow": [""], "x": ["1.2"]}
    assert parsed("2.9") < parsed("2.10") <= parsed("2.10.0")
