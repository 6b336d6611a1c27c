"""From a recipe to a plan, on real sources."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from halftone.base.errors import DataError, RecipeError, ResourceError
from halftone.base.records import dump_yaml
from halftone.run.plan import precision
from halftone.run.plan.make import make_plan
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from samples import stripes, write_folder, write_npz


@pytest.fixture(autouse=True)
def _by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured here; that has tests of its own."""
    monkeypatch.setattr(precision, "candidates", lambda facts: ("fp32",))


def autos(value: object, place: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for name, inner in value.items() for found in autos(inner, f"{place}.{name}")]
    return [place] if value == "auto" else []


def test_nothing_is_left_open_and_everything_has_a_reason() -> None:
    plan = make_plan(Recipe(data="digits")).plan
    open_ = autos(plan.settled.model_dump())
    # what does not apply may stay: the set's own parts decide validation, muon alone has a second rate;
    # the mode alone says how evaluation computes and whether the loss is scaled
    follow = {".precision.evaluation", ".precision.scaling"}
    assert set(open_) <= {".data.validation", ".augment.policy", ".optimizer.rest_lr"} | follow
    assert all(choice.reason for choice in plan.choices)
    assert plan.data.num_train + plan.data.num_validation == 1797
    assert plan.input.channels == 1
    assert plan.total_steps == plan.batches_per_epoch * plan.settled.epochs


def test_plan_survives_yaml() -> None:
    import yaml

    plan = make_plan(Recipe(data="digits", epochs=2, warmup="1ep")).plan
    assert Plan.parse(yaml.safe_load(dump_yaml(plan.to_mapping()))) == plan
    assert plan.warmup_steps == plan.batches_per_epoch


def test_the_settled_recipe_plans_to_itself() -> None:
    first = make_plan(Recipe(data="digits")).plan
    second = make_plan(first.settled).plan
    assert second.settled == first.settled
    assert second.input == first.input


def test_what_was_asked_is_not_a_choice(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    plan = make_plan(Recipe(data=str(path), batch_size=8, epochs=1, lr=0.5, precision="fp32", threads=1)).plan
    chosen = {choice.setting for choice in plan.choices}
    assert not chosen & {"batch_size", "epochs", "optimizer.lr", "precision.mode", "threads"}
    assert plan.settled.optimizer.lr == 0.5


def test_validation_part_of_the_set_or_held_out(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    own = make_plan(Recipe(data=str(path)))
    assert own.plan.data.num_validation == 24
    assert own.test is None
    held = make_plan(Recipe(data={"source": str(path), "validation": 0.25}))
    assert held.plan.data.num_validation == 24
    assert held.plan.data.num_train == 72
    assert held.plan.data.num_test == 24


def test_a_network_and_data_from_python() -> None:
    images, labels = stripes(48)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    prepared = make_plan(Recipe(), data=(torch.from_numpy(images), torch.from_numpy(labels)), model=network)
    assert prepared.built.module is network
    assert prepared.plan.settled.model.name == "given"
    assert prepared.plan.data.classes == ("0", "1", "2")


def test_starting_weights_depend_on_the_seed_alone() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # whatever was drawn before must not matter
        return next(make_plan(Recipe(data="digits", seed=seed)).built.module.parameters()).detach()

    assert torch.equal(first_weight(0), first_weight(0))
    assert not torch.equal(first_weight(0), first_weight(1))


def test_B4_B9_conflicts_with_the_data(tmp_path: Path, plain_cpu: None) -> None:
    path = str(write_npz(tmp_path / "tiny.npz"))
    with pytest.raises(RecipeError, match=r"warmup.length = 10ep: that is .* optimizer steps, and the whole run has"):
        make_plan(Recipe(data=path, epochs=5, warmup="10ep"))
    with pytest.raises(RecipeError, match="12 to 31 times slower"):
        make_plan(Recipe(data=path, precision="fp16", device="cpu"))
    assert (
        make_plan(Recipe(data=path, precision="fp16", device="cpu", force=True)).plan.settled.precision.mode == "fp16"
    )
    with pytest.raises(RecipeError, match="no tf32 units"):
        make_plan(Recipe(data=path, precision="tf32", device="cpu"))
    plan = make_plan(Recipe(data=path, batch_size=1000)).plan
    assert plan.settled.batch_size == 96
    assert any("only 96 training images" in choice.reason for choice in plan.choices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_F1_F2_devices() -> None:
    plan = make_plan(Recipe(data="digits")).plan
    assert plan.settled.device == "cpu"
    assert any(choice.setting == "device" and "no GPU" in choice.reason for choice in plan.choices)
    with pytest.raises(ResourceError, match="no cuda device"):
        make_plan(Recipe(data="digits", device="cuda"))
    with pytest.raises(RecipeError, match="must be auto"):
        make_plan(Recipe(data="digits", device="gpu"))


def test_A1_A36_broken_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=120)
    bad = root / "train" / "down" / "0002.png"
    bad.write_bytes(b"")
    prepared = make_plan(Recipe(data=str(root), batch_size=8))
    assert prepared.plan.data.num_train == 119
    assert prepared.plan.data.num_unreadable == 1
    assert [(fault.name, fault.reason) for fault in prepared.unreadable] == [
        ("train/down/0002.png", "the file is empty")
    ]
    with pytest.raises(DataError, match="none are allowed"):
        make_plan(Recipe(data={"source": str(root), "on_error": "fail"}))
    for name in ("0005.png", "0008.png", "0011.png"):
        (root / "train" / "down" / name).write_text("no picture")
    with pytest.raises(DataError, match=r"4 of 120 images cannot be read.*the first is train/down/0002.png") as caught:
        make_plan(Recipe(data=str(root)))
    assert "check-data" in caught.value.hint


def test_A7_A13_files_that_are_not_what_they_seem_are_noted_once(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    first, *others = (Image.open(path) for path in sorted(root.rglob("*.png"))[:3])
    first.save(root / "train/down/moving.gif", save_all=True, append_images=others)
    first.save(root / "train/down/called.jpg", "PNG")
    notes = make_plan(Recipe(data=str(root))).plan.data.notes
    assert [note for note in notes if "called.jpg" in note or "moving.gif" in note] == [
        "1 of another format than their names say, read by their content: train/down/called.jpg",
        "1 with several frames, of which the first is used: train/down/moving.gif",
    ]


def test_measured_normalisation_makes_inputs_standard(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz")
    spec = make_plan(Recipe(data=str(path))).plan.input
    images = np.load(path)["x_train"] / 255.0
    np.testing.assert_allclose(spec.mean, images.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(spec.std, images.std((0, 1, 2)), atol=1e-4)
