"""Files that cannot lie: whatever bit, tail or block of a model or a checkpoint is lost, it is refused by name.

Of a checkpoint, the one before it is used, each time.
"""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from halftone.base.errors import Interrupted, ModelFileError
from halftone.loop.events import StepTaken
from halftone.run.checkpoint import checkpoints, load_newest
from halftone.run.events import Notice
from halftone.run.folder import RunFolder
from halftone.run.model_file import load_model
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.run.tree import flatten
from halftone.verbs import resume, train
from halftone.weights.files import save_sealed
from samples import wish, write_npz

BITS, TRUNCATIONS, BLOCKS = 400, 100, 50
BLOCK = 512
"""Bytes: a sector of a disk that was never written."""


@dataclass(frozen=True)
class Files:
    """What a stopped run left: a model, and two checkpoints."""

    model: Path
    newest: Path
    before: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("damaged")
    recipe = wish(write_npz(root / "tiny.npz"), root / "runs", run={"checkpoint_every": "2it"})
    stop = StopRequest()
    with pytest.raises(Interrupted):
        for event in training(recipe, stop=stop):
            if isinstance(event, StepTaken) and event.tried == 8:  # in the second epoch, so that there is a best one
                stop.signal = signal.SIGTERM
    folder = RunFolder(next((root / "runs").iterdir()))
    newest, before = checkpoints(folder.checkpoints)[:2]
    return Files(folder.best, newest, before)


def flipped_bits(content: bytes) -> Iterator[bytes]:
    for position in random.Random(0).sample(range(len(content) * 8), BITS):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        yield bytes(damaged)


def truncations(content: bytes) -> Iterator[bytes]:
    for percent in range(TRUNCATIONS):
        yield content[: len(content) * percent // 100]


def zeroed_blocks(content: bytes) -> Iterator[bytes]:
    numbers = [at for at in range(0, len(content), BLOCK) if any(content[at : at + BLOCK])]
    for at in random.Random(0).sample(numbers, BLOCKS):
        yield content[:at] + bytes(len(content[at : at + BLOCK])) + content[at + BLOCK :]


DAMAGE = {"D18_truncations": truncations, "D19_bits": flipped_bits, "D19_blocks": zeroed_blocks}
HOW_MANY = {"D18_truncations": TRUNCATIONS, "D19_bits": BITS, "D19_blocks": BLOCKS}


@pytest.mark.parametrize("kind", DAMAGE)
def test_D18_D19_every_damaged_model_is_refused(files: Files, tmp_path: Path, kind: str) -> None:
    path, content = tmp_path / "best.safetensors", files.model.read_bytes()
    path.write_bytes(content)
    load_model(path)
    refused = 0
    for damaged in DAMAGE[kind](content):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=r"best\.safetensors"):
            load_model(path)
        refused += 1
    assert refused == HOW_MANY[kind]


def same(one: Any, other: Any) -> bool:
    (tensors, tree), (others, other_tree) = flatten(one), flatten(other)
    return tree == other_tree and all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize("kind", DAMAGE)
def test_D18_D19_every_damaged_checkpoint_is_passed_over_for_the_one_before(
    files: Files, tmp_path: Path, kind: str
) -> None:
    content = files.newest.read_bytes()
    older, newer = tmp_path / files.before.name, tmp_path / files.newest.name
    older.write_bytes(files.before.read_bytes())
    expected, _, _ = load_newest(tmp_path)
    newer.write_bytes(content)
    assert load_newest(tmp_path)[1:] == (newer, ())
    passed_over = 0
    for damaged in DAMAGE[kind](content):
        assert damaged != content
        newer.write_bytes(damaged)
        state, path, refused = load_newest(tmp_path)
        assert path == older
        assert len(refused) == 1 and newer.name in refused[0]
        assert same(state, expected)
        passed_over += 1
    assert passed_over == HOW_MANY[kind]


@pytest.mark.parametrize("kind", ["empty", "folder", "fifo", "dangling", "renamed but empty", "another kind"])
def test_D20_what_is_no_checkpoint_is_passed_over_and_out_of_the_way(files: Files, tmp_path: Path, kind: str) -> None:
    older, newer = tmp_path / files.before.name, tmp_path / files.newest.name
    older.write_bytes(files.before.read_bytes())
    match kind:
        case "empty":
            newer.touch()
        case "folder":
            newer.mkdir()
        case "fifo":
            os.mkfifo(newer)
        case "dangling":
            newer.symlink_to(tmp_path / "nowhere")
        case "renamed but empty":  # what a power cut leaves where a rename reached the disk before the content
            newer.write_bytes(bytes(files.newest.stat().st_size))
        case "another kind":
            newer.write_bytes(files.model.read_bytes())
    _, path, refused = load_newest(tmp_path)
    assert path == older
    assert len(refused) == 1 and newer.name in refused[0]


@pytest.mark.parametrize("step", [1, 9])
def test_D20_what_stands_in_the_place_of_a_checkpoint_does_not_end_the_run(tmp_path: Path, step: int) -> None:
    """A folder with the name of a checkpoint, older or newer than those of the run, and full."""
    recipe = wish(write_npz(tmp_path / "tiny.npz"), tmp_path / "runs", run={"checkpoint_every": "2it", "keep": 1})
    for event in training(recipe):
        if isinstance(event, StepTaken) and event.tried == 1:
            (folder,) = (tmp_path / "runs").iterdir()
            place = folder / "checkpoints" / f"step-{step:09d}.safetensors"
            place.mkdir()
            (place / "file").write_text("somebody's")
    assert (place / "file").read_text() == "somebody's"
    assert load_newest(folder / "checkpoints")[1].name == "step-000000012.safetensors"


def resealed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Seal a checkpoint again after changing its state: the seal tells of accidents, not of intent."""
    state, _, _ = load_newest(path.parent)
    state = change(state) or state
    tensors, tree = flatten(state)
    save_sealed(path, tensors, {"kind": "checkpoint", "state": tree})


def first_weight(state: dict[str, Any]) -> str:
    return next(name for name, tensor in state["model"].items() if tensor.is_floating_point())


def put(state: dict[str, Any], value: Callable[[torch.Tensor], torch.Tensor]) -> None:
    name = first_weight(state)
    state["model"][name] = value(state["model"][name])


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no progress": lambda state: state.pop("progress") and None,
    "no model": lambda state: state.pop("model") and None,
    "no optimizer": lambda state: state.pop("optimizer") and None,
    "no random streams": lambda state: state.pop("random") and None,
    "a weight less": lambda state: state["model"].pop(first_weight(state)) is None,
    "a weight more": lambda state: state["model"].update(extra=torch.ones(2)),
    "another shape": lambda state: put(state, lambda weight: weight.flatten()),
    "not a number": lambda state: put(state, lambda weight: weight * float("nan")),
    "half precision": lambda state: put(state, lambda weight: weight.half()),
    "a model of words": lambda state: state.update(model="resnet"),
    "a list for the model": lambda state: state.update(model=[1, 2]),
    "no groups": lambda state: state["optimizer"].update(param_groups=[]),
    "an optimizer of words": lambda state: state.update(optimizer="sgd"),
    "a step of words": lambda state: state["progress"].update(step="many"),
    "progress beyond itself": lambda state: state["progress"].update(surprise=1),
    "random streams of words": lambda state: state.update(random={"torch": "x"}),
    "an unknown part": lambda state: state.update(surprise=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_D24_a_checkpoint_of_another_content_is_refused(files: Files, tmp_path: Path, change: str) -> None:
    folder = Path(shutil.copytree(files.newest.parents[1], tmp_path / "run"))
    newest = folder / "checkpoints" / files.newest.name
    resealed(newest, CHANGES[change])
    model, others = (folder / "best.safetensors").read_bytes(), sorted((folder / "checkpoints").iterdir())
    with pytest.raises(ModelFileError) as caught:
        for _ in resuming(folder):
            pass
    assert newest.name in str(caught.value)
    assert caught.value.exit_code == 4
    assert (folder / "best.safetensors").read_bytes() == model
    assert sorted((folder / "checkpoints").iterdir()) == others


@pytest.mark.parametrize(
    "header", [{"kind": "checkpoint"}, {"kind": "checkpoint", "state": 3}, {"kind": "x"}, {"kind": "x", "state": {}}]
)
def test_D24_a_sealed_file_without_a_state_is_passed_over(files: Files, tmp_path: Path, header: dict[str, Any]) -> None:
    older, newer = tmp_path / files.before.name, tmp_path / files.newest.name
    older.write_bytes(files.before.read_bytes())
    save_sealed(newer, {"t0": torch.ones(1)}, header)
    _, path, refused = load_newest(tmp_path)
    assert path == older and newer.name in refused[0]


@pytest.fixture(scope="module")
def told(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the tables that its listeners write."""
    root = tmp_path_factory.mktemp("told")
    return train(wish(files.model.parents[2] / "tiny.npz", root / "runs", max_steps=9)).path


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("results.csv", "\n1,", "\nmany,"),
        ("results.csv", "train_loss", "loss"),
        ("classification_report.json", '"accuracy": ', '"accuracy": "much", "x": '),
        ("classification_report.json", "{", "["),
        ("plan.yaml", "epochs: ", "epochs: many # "),
    ],
)
def test_D28_tampered_text_in_a_folder_is_named_when_the_run_goes_on(
    told: Path, tmp_path: Path, name: str, old: str, new: str
) -> None:
    folder = Path(shutil.copytree(told, tmp_path / "run"))
    place = folder / name
    text = place.read_text()
    place.write_text(text.replace(old, new, 1))
    assert place.read_text() != text
    with pytest.raises(ModelFileError) as caught:
        resume(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "it is not known where it began"),
        ("{", "it is not known where it began"),
        ('{"packages": ["torch"], "processor": [1]}', "processor: [1] when the run began"),
        ('{"packages": ["torch"]}', "it is not known with which versions it began"),
        ('{"packages": {"torch": 1}}', "torch: 1 when the run began"),
    ],
)
def test_D28_with_surroundings_that_were_tampered_with_nothing_is_exact(
    files: Files, tmp_path: Path, text: str, words: str
) -> None:
    folder = Path(shutil.copytree(files.newest.parents[1], tmp_path / "run"))
    (folder / "environment.json").write_text(text)
    notes = [event.text for event in resuming(folder) if isinstance(event, Notice)]
    assert any("not exact, because" in note and words in note for note in notes)
