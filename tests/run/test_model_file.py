"""The weight files of a run: enough in them to predict, and nothing that is taken on trust."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import Diverged, ModelFileError
from halftone.metrics.report import Metrics
from halftone.models.built import Built
from halftone.precision.config import PrecisionConfig
from halftone.precision.policy import own_format
from halftone.run.model_file import ModelCard, load_model, model_card, save_model
from halftone.run.plan.make import make_plan
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.weights import files
from halftone.weights.files import load_sealed, save_sealed
from samples import write_npz

METRICS = Metrics.model_construct(accuracy=0.75, loss=0.5)


def plan_of(folder: Path, **settings: Any) -> tuple[Plan, Built]:
    source = write_npz(folder / "tiny.npz")
    values = {"data": {"source": str(source)}, "batch_size": 16, "precision": "fp32", "threads": 1, "epochs": 1}
    prepared = make_plan(Recipe.parse({**values, "model": "cifar_resnet8", **settings}))
    return prepared.plan, prepared.built


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, nn.Module]:
    plan, built = plan_of(tmp_path_factory.mktemp("model"))
    for layer in built.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
    return plan, built.module


@pytest.fixture
def saved(made: tuple[Plan, nn.Module], tmp_path: Path) -> Path:
    plan, module = made
    save_model(tmp_path / "best.safetensors", module.state_dict(), model_card(plan, epoch=3, step=17, metrics=METRICS))
    return tmp_path / "best.safetensors"


def rewritten(path: Path, **changes: Any) -> Path:
    """Seal the file again with another card, as somebody who means harm would."""
    stored = load_sealed(path)
    card = {**stored.header["card"], **changes}
    save_sealed(path, stored.tensors, {**stored.header, "card": {k: v for k, v in card.items() if v is not ...}})
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    own, given = one.state_dict(), other.state_dict()
    return own.keys() == given.keys() and all(torch.equal(own[name], given[name]) for name in own)


def test_round_trip(made: tuple[Plan, nn.Module], saved: Path) -> None:
    plan, module = made
    loaded = load_model(saved)
    assert same(loaded.module, module)
    assert not any(layer.training for layer in loaded.module.modules())
    card = loaded.card
    assert (card.name, card.classes, card.input) == ("cifar_resnet8", plan.data.classes, plan.input)
    assert (card.epoch, card.step, card.accuracy, card.loss) == (3, 17, 0.75, 0.5)
    assert (card.precision, card.halftone) == (PrecisionConfig(mode="fp32"), plan.halftone)
    images = torch.rand(2, plan.input.channels, plan.input.size, plan.input.size)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(images), module.eval()(images))


def test_formats_of_layers_come_back(made: tuple[Plan, nn.Module], saved: Path) -> None:
    loaded = load_model(rewritten(saved, precision={"mode": "bf16", "layers": {"head": "fp32", "norm": "fp32"}}))
    assert own_format(loaded.module.get_submodule("head")) == "fp32"
    norms = [layer for layer in loaded.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and all(own_format(layer) == "fp32" for layer in norms)


def test_a_card_of_an_earlier_version_has_only_a_mode(saved: Path) -> None:
    card = load_model(rewritten(saved, precision="bf16")).card
    assert card.precision == PrecisionConfig(mode="bf16")


@pytest.mark.parametrize(
    "settings", [{"model": {"name": "cnn", "dropout": 0.5}}, {"model": {"name": "cnn", "channels_last": True}}]
)
def test_options_of_the_network_come_back(tmp_path: Path, settings: dict[str, Any]) -> None:
    plan, built = plan_of(tmp_path, **settings)
    save_model(
        tmp_path / "m.safetensors", built.module.state_dict(), model_card(plan, epoch=1, step=1, metrics=METRICS)
    )
    loaded = load_model(tmp_path / "m.safetensors")
    assert same(loaded.module, built.module)
    assert loaded.card.dropout == plan.settled.model.dropout
    last = loaded.module.get_submodule("blocks.0.0").weight.is_contiguous(memory_format=torch.channels_last)
    assert last == plan.settled.model.channels_last


def test_a_network_from_python_is_filled(made: tuple[Plan, nn.Module], saved: Path, tmp_path: Path) -> None:
    _, module = made
    _, built = plan_of(tmp_path)
    nn.init.zeros_(next(built.module.parameters()))
    loaded = load_model(saved, built.module)
    assert loaded.module is built.module
    assert same(loaded.module, module)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_C8_weights_that_are_not_finite_are_never_saved(
    made: tuple[Plan, nn.Module], tmp_path: Path, value: float
) -> None:
    plan, module = made
    path = tmp_path / "last.safetensors"
    save_model(path, module.state_dict(), model_card(plan, epoch=1, step=1, metrics=METRICS))
    before = path.read_bytes()
    weight = module.get_submodule("head").bias
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = value
    try:
        with pytest.raises(Diverged, match=r"the weights of head.bias are not finite after step 9") as caught:
            save_model(path, module.state_dict(), model_card(plan, epoch=2, step=9, metrics=METRICS))
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["checkpoint", "picture", 3, None])
def test_other_kinds_of_files_are_refused(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "x.safetensors"
    save_sealed(path, {"t0": torch.ones(1)}, {"kind": kind, "state": {}})
    with pytest.raises(ModelFileError, match=f"x.safetensors is a {kind}, not a model"):
        load_model(path)


def test_weights_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"head.weight": torch.ones(1)}, path)
    with pytest.raises(ModelFileError, match="was not written by halftone"):
        load_model(path)
    with pytest.raises(ModelFileError, match="there is no weight file"):
        load_model(tmp_path / "nowhere.safetensors")


def test_D19_a_damaged_model_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-100] ^= 4
    saved.write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(saved)


def test_D23_a_model_of_a_newer_format_is_refused_by_name(
    made: tuple[Plan, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, module = made
    path = tmp_path / "best.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT", 7)
        save_model(path, module.state_dict(), model_card(plan, epoch=1, step=1, metrics=METRICS))
    with pytest.raises(
        ModelFileError, match=r"has format 7, made by halftone [\d.]+; this is halftone [\d.]+, which reads up to 1"
    ):
        load_model(path)


SPEC = {"size": 16, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": []},
        {"classes": [1, 2, 3]},
        {"classes": "abc"},
        {"classes": None},
        {"classes": ...},
        {"name": 3},
        {"name": ...},
        {"input": {**SPEC, "size": 10**6}},
        {"input": {**SPEC, "size": 0}},
        {"input": {**SPEC, "channels": 2}},
        {"input": {**SPEC, "mean": [0.5]}},
        {"input": {**SPEC, "std": [0.5, 0.5]}},
        {"input": {**SPEC, "std": [0.5, 0.0, 0.5]}},
        {"input": {**SPEC, "std": [0.5, -1.0, 0.5]}},
        {"input": {**SPEC, "crop": 0}},
        {"precision": "fp1"},
        {"precision": "__import__('os')"},
        {"precision": {"mode": "bf16", "surprise": 1}},
        {"precision": {"mode": "bf16", "layers": {"head": "int8"}}},
        {"precision": {"mode": "fp32", "emulate": "fp16"}},
        {"evaluation_batch": 0},
        {"epoch": -1},
        {"dropout": "much"},
        {"channels_last": "perhaps"},
        {"surprise": 1},
    ],
)
def test_D28_a_tampered_card_is_refused(saved: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="what its weights are") as caught:
        load_model(rewritten(saved, **changes))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("card", [None, 3, "text", [], ["name"], {}])
def test_D28_no_card_is_refused(saved: Path, card: Any) -> None:
    save_sealed(saved, load_sealed(saved).tensors, {"kind": "model", "card": card})
    with pytest.raises(ModelFileError, match="what its weights are"):
        load_model(saved)


def test_D28_a_million_classes_cost_nothing(saved: Path) -> None:
    path = rewritten(saved, classes=[str(number) for number in range(10**6)])
    with pytest.raises(ModelFileError, match="names 1000000 classes, but no tensor in it has a row for each"):
        load_model(path)


def test_D28_hostile_class_names_are_only_names(made: tuple[Plan, nn.Module], saved: Path) -> None:
    names = ['<script>alert("x")</script>', "../../etc/passwd", "a\r\nb\0"]
    card = load_model(rewritten(saved, classes=names)).card
    assert card.classes == tuple(names)
    assert json.loads(card.model_dump_json())["classes"] == names


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "cifar_resnet14"}, "does not fit the network cifar_resnet14"),
        ({"name": "cnn"}, "does not fit the network cnn"),
    ],
)
def test_D21_another_network_is_refused(saved: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        load_model(rewritten(saved, **changes))


def test_D22_another_number_of_classes_is_refused(saved: Path) -> None:
    with pytest.raises(ModelFileError, match=r"does not fit the network cifar_resnet8: head.weight and 1 more"):
        load_model(rewritten(saved, classes=[str(number) for number in range(16)]))


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["head.bias"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["extra"] = torch.ones(1)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.bias"] = torch.ones(5)


def quantise(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.bias"] = tensors["head.bias"].to(torch.int8)


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.bias"][1] = float("nan")


@pytest.mark.parametrize("fault", [drop, add, reshape, quantise, spoil])
def test_D24_tensors_that_do_not_belong_change_nothing(saved: Path, tmp_path: Path, fault: Any) -> None:
    stored = load_sealed(saved)
    fault(stored.tensors)
    save_sealed(saved, stored.tensors, stored.header)
    _, built = plan_of(tmp_path)
    before = {name: tensor.clone() for name, tensor in built.module.state_dict().items()}
    with pytest.raises(ModelFileError, match=r"head.bias|extra"):
        load_model(saved, built.module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.module.state_dict().items())


def test_the_card_says_all_that_prediction_needs() -> None:
    assert set(ModelCard.model_fields) >= {"name", "classes", "input", "precision", "channels_last", "dropout"}
