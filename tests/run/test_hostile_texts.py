"""D25, D28: texts that would run code, in recipes, plans and headers of weight files. Weights and recipes are data."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from halftone.base.errors import HalftoneError
from halftone.base.files import read_json
from halftone.base.records import read_yaml
from halftone.metrics.report import Metrics
from halftone.run.checkpoint import load_newest
from halftone.run.folder import RunFolder
from halftone.run.model_file import load_model, model_card, save_model
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.tree import unflatten
from halftone.weights.files import load_sealed, load_weights, save_sealed, stored_header
from samples import wish, write_npz
from watching import watched


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a plan and a model, as an attacker would begin."""
    root = tmp_path_factory.mktemp("honest")
    prepared = make_plan(wish(write_npz(root / "tiny.npz"), root / "runs"))
    folder = RunFolder(root / "run")
    (folder.path / "checkpoints").mkdir(parents=True)
    folder.write_plan(prepared.plan, {"packages": {}})
    card = model_card(prepared.plan, epoch=1, step=1, metrics=Metrics.model_construct(accuracy=0.5, loss=1.0))
    save_model(folder.best, prepared.built.module.state_dict(), card)
    with pytest.raises(HalftoneError, match="not known"):  # imports libraries, which do things
        make_plan(wish(root / "tiny.npz", root / "runs", model="no_such_network"))
    return folder.path


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(honest, tmp_path / "run")))


class Makes:
    """Pickles as a call that makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def network_file(canary: Path) -> Path:
    """A class of the attacker's, in a file that lies on this machine."""
    path = canary.with_name("evil.py")
    path.write_text(f"import os\nos.mkdir({str(canary)!r})\nfrom torch import nn\nNet = nn.Identity\n")
    return path


def recipe(text: str) -> Callable[[RunFolder, Path], Any]:
    def attack(folder: RunFolder, canary: Path) -> Any:
        folder.recipe.write_text(text.replace("CANARY", str(canary)))
        return lambda: Recipe.parse(read_yaml(folder.recipe))

    return attack


def plan_yaml(folder: RunFolder, canary: Path) -> Any:
    text = folder.plan.read_text()
    folder.plan.write_text(text.replace("device: cpu", f"device: !!python/object/apply:os.mkdir [{canary}]"))
    assert folder.plan.read_text() != text
    return folder.read_plan


def card(**changes: Any) -> Callable[[RunFolder, Path], Any]:
    def attack(folder: RunFolder, canary: Path) -> Any:
        stored = load_sealed(folder.best)
        own = {key: str(value).replace("EVIL", str(network_file(canary))) for key, value in changes.items()}
        save_sealed(folder.best, stored.tensors, {"kind": "model", "card": {**stored.header["card"], **own}})
        return lambda: load_model(folder.best)

    return attack


def header(text: str) -> Callable[[RunFolder, Path], Any]:
    def attack(folder: RunFolder, canary: Path) -> Any:
        save_file({"a": torch.ones(1)}, folder.best, metadata={"halftone": text.replace("CANARY", str(canary))})
        return lambda: (stored_header(folder.best), load_weights(folder.best))

    return attack


def pickle_within_safetensors(folder: RunFolder, canary: Path) -> Any:
    inner = pickle.dumps(Makes(canary))
    entry = {"w": {"dtype": "U8", "shape": [len(inner) + 1], "data_offsets": [0, len(inner) + 1]}}
    text = json.dumps(entry).encode()
    folder.best.write_bytes(struct.pack("<Q", len(text)) + text + inner)
    return lambda: load_weights(folder.best)


def pickle_for_safetensors(folder: RunFolder, canary: Path) -> Any:
    folder.best.write_bytes(pickle.dumps(Makes(canary)))
    return lambda: load_weights(folder.best)


def checkpoint(tree: Any) -> Callable[[RunFolder, Path], Any]:
    def attack(folder: RunFolder, canary: Path) -> Any:
        path = folder.checkpoints / "step-000000001.safetensors"
        values = json.loads(json.dumps(tree).replace("CANARY", str(canary)))
        save_sealed(path, {"t0": torch.ones(1)}, {"kind": "checkpoint", "state": values})
        return lambda: load_newest(folder.checkpoints)

    return attack


def environment(folder: RunFolder, canary: Path) -> Any:
    folder.environment.write_text(f'{{"packages": __import__("os").mkdir("{canary}")}}')
    return lambda: read_json(folder.environment)


ATTACKS: dict[str, Callable[[RunFolder, Path], Any]] = {
    "yaml: apply": recipe("data: !!python/object/apply:os.mkdir [CANARY]\n"),
    "yaml: new": recipe("data: !!python/object/new:subprocess.Popen [[touch, CANARY]]\n"),
    "yaml: name": recipe("data: !!python/name:os.system ''\n"),
    "yaml: module": recipe("data: !!python/module:antigravity ''\n"),
    "yaml: key": recipe("? !!python/object/apply:os.mkdir [CANARY]\n: 1\n"),
    "yaml: merged": recipe("data:\n  <<: !!python/object/apply:os.mkdir [CANARY]\n"),
    "yaml: of a plan": plan_yaml,
    "json: a class in the card": card(name="EVIL:Net"),
    "json: a call in the card": card(name="__import__('os').system('touch EVIL')"),
    "json: a network of the hub in the card": card(name="timm:hf-hub:evil/net"),
    "json: a network of a folder in the card": card(name="timm:local-dir:EVIL"),
    "json: code in the header": header('{"sha256": __import__("os").mkdir("CANARY")}'),
    "json: a reduced object in the checkpoint": checkpoint({"$reduce": ["os.mkdir", ["CANARY"]]}),
    "json: an unknown object in the checkpoint": checkpoint({"model": {"$object": "os.mkdir", "args": ["CANARY"]}}),
    "json: code in the environment": environment,
    "safetensors: a pickle under its name": pickle_for_safetensors,
    "safetensors: a pickle in its data": pickle_within_safetensors,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_D25_D28_no_text_runs_code(folder: RunFolder, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    read = ATTACKS[name](folder, canary)
    with watched() as deeds, pytest.raises(HalftoneError) as caught:
        read()
    assert caught.value.exit_code in (2, 4)
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    assert deeds == set()


def test_D25_the_same_text_runs_where_nobody_refuses(folder: RunFolder, tmp_path: Path) -> None:
    """The control: an unsafe loader of YAML, a class that the user vouches for, and the pickle's own module."""
    canary = tmp_path / "canary"
    with watched() as deeds:
        yaml.unsafe_load(f"a: !!python/object/apply:os.mkdir [{canary}]")
    assert canary.is_dir() and "os.mkdir" in deeds
    canary.rmdir()
    read = card(name="EVIL:Net")(folder, canary)
    with watched() as deeds, pytest.raises(HalftoneError, match="must give logits"):
        load_model(folder.best, trusted=True)
    assert canary.is_dir() and "os.mkdir" in deeds
    canary.rmdir()
    with pytest.raises(HalftoneError, match="not trusted that far"):
        read()
    pickle_for_safetensors(folder, canary)
    pickle.loads(folder.best.read_bytes())
    assert canary.is_dir()


def test_D28_names_of_classes_are_no_templates_and_no_commands(folder: RunFolder) -> None:
    """What a page or a terminal would make of them is tested where they are shown."""
    stored = load_sealed(folder.best)
    names = ["{{ 7 * 7 }}", "{% include '/etc/passwd' %}", "\x1b]0;title\x07\x1b[2J"]
    changed = {**stored.header["card"], "classes": names}
    save_sealed(folder.best, stored.tensors, {"kind": "model", "card": changed})
    assert list(load_model(folder.best).card.classes) == names


@pytest.mark.parametrize("mark", ["$reduce", "$call", "$python/object", "$"])
def test_D25_a_state_knows_no_other_marks(mark: str) -> None:
    with pytest.raises(HalftoneError, match="is not known"):
        unflatten({}, {mark: ["os.system", ["true"]]})
