"""Somebody else's weight file, evaluated as in plain PyTorch; and a run's file alone, by its card."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import DataError, ModelFileError, RecipeError
from halftone.data.config import DataConfig
from halftone.metrics.report import Metrics
from halftone.run.file_evaluation import evaluate_file
from halftone.run.model_file import model_card, save_model
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from samples import stripes, write_npz

MEAN, STD = (0.5, 0.48, 0.45), (0.25, 0.24, 0.26)
NETWORK = """
import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class SmallResNet(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.model = nn.Sequential(Block(8), Block(8))
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.model(self.stem(x)).mean((2, 3)))
"""


def normalised(images: np.ndarray) -> Tensor:
    """As people write it: to [0, 1], minus the mean, divided by the deviation."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, float]:
    """A folder with net.py and set.npz, a network that was trained a little by hand, and its accuracy."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(NETWORK)
    names: dict[str, Any] = {}
    exec(compile(NETWORK, "net.py", "exec"), names)
    x_train, y_train = stripes(192, seed=1)
    x_test, y_test = stripes(300, seed=2)
    classes = np.array(["across", "aslant", "down"])
    np.savez(folder / "set.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=classes)
    torch.manual_seed(0)
    network = names["SmallResNet"]()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for step in range(7):
        part = slice(32 * (step % 6), 32 * (step % 6 + 1))
        loss = nn.functional.cross_entropy(network(normalised(x_train[part])), torch.from_numpy(y_train[part]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = network.eval()(normalised(x_test)).argmax(1).numpy()
    accuracy = float((predicted == y_test).mean())
    assert 0.4 < accuracy < 0.99  # neither by chance nor beyond doubt, so that small differences would show
    return folder, network, accuracy


def config(folder: Path, **more: Any) -> DataConfig:
    return DataConfig(source=str(folder / "set.npz"), mean=MEAN, std=STD, **more)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {"epoch": 3, "state_dict": prefixed(state, "module."), "best_acc1": 71.2},
    "compiled": lambda state: prefixed(state, "module._orig_mod."),
    "torchvision": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, data_path=Path("somewhere"), device="cuda"),
    },
    "Lightning": lambda state: {
        "state_dict": {**prefixed(state, "classifier."), "loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
        "pytorch-lightning_version": "2.4.0",
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.9)}},
    },
    "EMA": lambda state: {"ema": {**prefixed(state, "module."), "n_averaged": torch.tensor(9)}, "updates": 9},
    "ema_pytorch": lambda state: {
        **prefixed(state, "ema_model."),
        **prefixed({name: torch.zeros_like(tensor) for name, tensor in state.items()}, "online_model."),
        "initted": torch.tensor([True]),
    },
    "own name": lambda state: {"weights_of_resnet": state, "history": [1.0, 0.5]},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_the_accuracy_is_that_of_plain_pytorch(
    trained: tuple[Path, nn.Module, float], tmp_path: Path, kind: str, legacy: bool
) -> None:
    folder, network, accuracy = trained
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(WRAPPED[kind](network.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    found = evaluate_file(path, config(folder), model=f"{folder}/net.py:SmallResNet", device="cpu")
    assert found.part == "test"
    assert found.metrics.num_images == 300
    assert found.metrics.accuracy == accuracy
    assert found.notes[0].startswith(f"weights: {len(network.state_dict())} tensors loaded")
    assert found.notes[1] == "normalisation: mean 0.500 0.480 0.450, deviation 0.250 0.240 0.260 (asked)"


def test_another_normalisation_is_another_accuracy(trained: tuple[Path, nn.Module, float], tmp_path: Path) -> None:
    """So the test above would notice one that was not applied."""
    folder, network, accuracy = trained
    torch.save(network.state_dict(), tmp_path / "w.pt")
    dark = config(folder).replaced(mean=0.9)
    found = evaluate_file(tmp_path / "w.pt", dark, model=f"{folder}/net.py:SmallResNet", device="cpu")
    assert found.metrics.accuracy != accuracy


def test_a_normalisation_that_nobody_gave_is_said(trained: tuple[Path, nn.Module, float], tmp_path: Path) -> None:
    folder, network, _ = trained
    torch.save(network.state_dict(), tmp_path / "w.pt")
    data = DataConfig(source=str(folder / "set.npz"))
    found = evaluate_file(tmp_path / "w.pt", data, model=f"{folder}/net.py:SmallResNet", device="cpu")
    assert "measured on 192 training images" in found.notes[1]


def test_what_cannot_be_evaluated_is_said(trained: tuple[Path, nn.Module, float], tmp_path: Path) -> None:
    folder, network, _ = trained
    path, own = tmp_path / "w.pt", f"{folder}/net.py:SmallResNet"
    torch.save(network.state_dict(), path)
    with pytest.raises(RecipeError, match="does not say which network") as caught:
        evaluate_file(path, config(folder), device="cpu")
    assert "--model" in caught.value.hint
    with pytest.raises(ModelFileError, match="do not fit"):
        evaluate_file(path, config(folder), model="cifar_resnet8", device="cpu")
    four = write_npz(tmp_path / "four.npz", classes=4)
    with pytest.raises(ModelFileError, match="has no head for the 4 classes"):
        evaluate_file(path, DataConfig(source=str(four)), model=own, device="cpu")
    with pytest.raises(RecipeError, match="mean has 3 numbers"):
        evaluate_file(path, config(folder, channels=1), model=own, device="cpu")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The weights of a run, without the run."""
    source = write_npz(tmp_path / "tiny.npz")
    plan = make_plan(Recipe(data=str(source), model="cifar_resnet8", precision="fp32", threads=1, epochs=1))
    card = model_card(plan.plan, epoch=1, step=1, metrics=Metrics.model_construct(accuracy=0.5, loss=1.0))
    save_model(tmp_path / "alone.safetensors", plan.built.module.state_dict(), card)
    return tmp_path / "alone.safetensors"


def test_a_file_of_a_run_says_itself_what_it_is(saved: Path, tmp_path: Path) -> None:
    found = evaluate_file(saved, DataConfig(source=str(tmp_path / "tiny.npz")), device="cpu")
    assert (found.part, found.metrics.num_images, found.notes) == ("test", 24, ())
    assert [row.name for row in found.metrics.classes] == ["across", "aslant", "down"]
    with pytest.raises(RecipeError, match="says itself"):
        evaluate_file(saved, DataConfig(source=str(tmp_path / "tiny.npz")), model="cnn", device="cpu")
    with pytest.raises(DataError, match="does not know: other"):
        evaluate_file(saved, DataConfig(source=str(write_npz(tmp_path / "four.npz", classes=4))), device="cpu")
