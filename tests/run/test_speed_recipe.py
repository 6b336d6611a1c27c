"""`recipes/cifar10-94.yaml` and the parts that it is made of, through whole runs, resumes and evaluations."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.cifar10_94.task import our_ends

from halftone.base.errors import RecipeError
from halftone.data.labelled import Subset
from halftone.loop.events import EpochDone, LayersHalted
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.prepare import prepare
from halftone.run.recipe import read_recipe
from halftone.run.session import build_session
from halftone.run.training import training
from halftone.verbs import train
from halftone.weights.files import load_sealed
from samples import numbers, stopped_and_resumed, wish, write_npz

RECIPE = Path(__file__).parents[2] / "recipes" / "cifar10-94.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz", size=8)


def recipe(source: Path, root: Path, **settings: Any) -> Any:
    """The recipe on small pictures: batches of 16, so 6 steps an epoch."""
    run = {"root": str(root), "report": False, "tensorboard": False, **settings.pop("run", {})}
    data = {"source": str(source), "progressive": {6: "4it"}, **settings.pop("data", {})}
    short = {"epochs": 3, "batch_size": 16, "precision": "fp32", "threads": 1, "data": data, "run": run}
    short |= {"weights": {"freeze_after": {"stem.bias": "1ep"}}}
    return read_recipe(RECIPE, {**short, **settings})


def test_the_plan_is_the_published_training(tiny: Path, tmp_path: Path) -> None:
    """Jordan 2024: the rates that the published code has for the sum of the loss over 2,000 images, as they act."""
    session = build_session(prepare(recipe(tiny, tmp_path)))
    named = {id(parameter): name for name, parameter in session.model.named_parameters()}
    rates = {named[id(one)]: group for group in session.optimizer.param_groups for one in group["params"]}
    biases = {name for name in rates if name.endswith(".bias")}
    filters = {name for name in rates if "conv" in name}
    assert set(rates) == biases | filters | {"head.weight"}
    assert (len(biases), len(filters)) == (7, 6)
    assert all(rates[name]["peak"] == 106 and rates[name]["momentum"] == 0.85 for name in biases)
    assert rates["head.weight"]["peak"] == pytest.approx(0.67 * 2000 / 256**2, rel=2e-3)
    shrinking = [rates[name]["peak"] * rates[name]["weight_decay"] for name in (*biases, "head.weight")]
    assert shrinking == pytest.approx([0.004] * 8, rel=2e-3)
    assert all(rates[name]["orthogonal"] and rates[name]["peak"] == 0.24 for name in filters)
    shares = [session.schedule.share(step, rates["stem.bias"]["lane"]) for step in (0, 3, 6, 17)]
    assert shares == pytest.approx([1, 0.5, 0, 0])
    assert [session.schedule.share(step) for step in (0, 9, 17)] == pytest.approx([1, 0.5, 1 / 18])


def test_the_benchmark_times_the_stretches_of_the_recipe() -> None:
    """Between two ends every step does the same."""
    wanted, ends = read_recipe(RECIPE), our_ends()
    assert ends[""] == wanted.max_steps == max(ends.values())
    assert list(ends) == ["stem.bias", *map(str, wanted.data.progressive), ""]
    assert list(ends.values()) == sorted(ends.values())


def test_it_trains_says_what_it_did_and_is_evaluated_in_as_many_views(tiny: Path, tmp_path: Path) -> None:
    wanted = recipe(tiny, tmp_path, epochs=5, run={"validate_every": 3})
    events = list(training(wanted))
    halted = [(event.tried, event.names) for event in events if isinstance(event, LayersHalted)]
    assert halted == [(6, ("stem.bias",))]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    validated = [event.epoch for event in epochs if event.evaluation.metrics.num_images]
    assert validated == [3, 5]
    assert all(event.evaluation.metrics.accuracy is None and not event.improved for event in epochs[:2])
    last = epochs[-1].evaluation.metrics
    assert (last.views, last.num_images) == (6, 24)
    assert last.accuracy is not None
    assert last.accuracy > 0.6
    folder = next(path for path in tmp_path.iterdir())
    again = evaluate_run(folder, weights="last").metrics
    assert again == last
    once = evaluate_run(folder, weights="last", views=1).metrics
    assert once.views == 1
    assert once.loss != last.loss


def test_the_mean_of_the_logits_counts_in_evaluation_and_prediction(tiny: Path, tmp_path: Path) -> None:
    path = train(recipe(tiny, tmp_path, data={"views": 2})).path
    classifier = Classifier.load(path)
    images = prepare(recipe(tiny, tmp_path)).validation
    assert not isinstance(images, Subset)
    assert images.array is not None
    pixels = torch.from_numpy(images.array).permute(0, 3, 1, 2).float() / 255
    spec = classifier.card.input
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    with torch.inference_mode():
        both = [classifier.module((side - mean) / std) for side in (pixels, pixels.flip(3))]
        wanted = ((both[0] + both[1]) / 2).softmax(1)
    found = evaluate_run(path, weights="best")
    assert found.evaluation.confidence == pytest.approx(wanted.max(1).values.numpy(), abs=1e-4)
    said = next(classifier.predict([images.pixels(5)]))
    assert said.probability == pytest.approx(float(wanted[5].max()), abs=1e-4)


@pytest.mark.parametrize("stop_at", [2, 5, 6, 7, 13])
def test_a_resumed_run_is_one_that_was_never_stopped(tiny: Path, tmp_path: Path, stop_at: int) -> None:
    """Around the step in which the bias halts, and in the second round of flips."""
    straight = train(recipe(tiny, tmp_path, run={"name": "straight"})).path
    stopped_and_resumed(recipe(tiny, tmp_path, run={"name": "cut"}), tmp_path / "cut", stop_at)
    ends = [load_sealed(folder / "last.safetensors").tensors for folder in (straight, tmp_path / "cut")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    for table in ("steps.csv", "results.csv"):
        assert numbers(straight, table) == numbers(tmp_path / "cut", table)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-true"])
def test_layers_that_halted_stand_still_to_the_bit(tiny: Path, tmp_path: Path, precision: str) -> None:
    weights = [
        load_sealed(train(recipe(tiny, tmp_path, epochs=epochs, precision=precision)).path / "last.safetensors").tensors
        for epochs in (1, 2)
    ]
    settings = {"epochs": 2, "precision": precision, "weights": {"freeze_after": {"stem.bias": "3it"}}}
    early = load_sealed(train(recipe(tiny, tmp_path, **settings)).path / "last.safetensors").tensors
    start = prepare(recipe(tiny, tmp_path)).built.module.state_dict()
    for tensors_of_run in (*weights, early):
        assert torch.equal(tensors_of_run["stem.weight"], start["stem.weight"])
        assert torch.equal(tensors_of_run["blocks.0.norm1.weight"], start["blocks.0.norm1.weight"])
        assert not torch.equal(tensors_of_run["stem.bias"], start["stem.bias"])
    assert not torch.equal(early["stem.bias"], weights[1]["stem.bias"])


def test_it_takes_files_of_runs_without_views(tiny: Path, tmp_path: Path) -> None:
    """A report and a card from before views were counted mean one view."""
    path = train(wish(tiny, tmp_path, epochs=1)).path
    report = json.loads((path / "classification_report.json").read_text())
    assert report["views"] == 1
    assert evaluate_run(path, views=6).metrics.views == 6


def test_patience_counts_validated_epochs_only(tiny: Path, tmp_path: Path) -> None:
    """At a rate that moves nothing: no later validation is better than the first."""
    settings = {"model": "plain4", "optimizer": "sgd", "lr": 1e-30, "warmup": "none", "epochs": 12, "patience": 1}
    folder = train(wish(tiny, tmp_path, run={"validate_every": 4}, **settings)).path
    rows = numbers(folder, "results.csv")
    assert [row["epoch"] for row in rows if row["val_accuracy"]] == ["4", "8"]
    assert len(rows) == 8


@pytest.mark.parametrize("decay", [{"shape": "plateau", "patience": 0}, "cosine"])
def test_rare_validation_leaves_training_as_it_is(tiny: Path, tmp_path: Path, decay: Any) -> None:
    """The weights of the end are the same; a plateau sees the validated epochs only."""
    found = {}
    for every in (1, 4):
        settings = {"run": {"name": f"every-{every}", "validate_every": every}, "epochs": 4, "decay": decay}
        folder = train(wish(tiny, tmp_path, optimizer="sgd", lr=1e-30, warmup="none", **settings)).path
        found[every] = numbers(folder, "results.csv")
    assert [row["train_loss"] for row in found[1]] == [row["train_loss"] for row in found[4]]
    assert found[1][-1]["val_loss"] == found[4][-1]["val_loss"]
    assert [bool(row["val_loss"]) for row in found[4]] == [False, False, False, True]


def test_bad_settings_are_said_in_one_line(tiny: Path, tmp_path: Path) -> None:
    for settings, said in (
        ({"data": {"views": 3}}, r"data\.views = 3: it must be 1, 2 or 6"),
        ({"augment": {"flip": "both"}}, r"augment\.flip = 'both': .*'alternate'"),
        ({"weights": {"freeze_after": "stem"}}, "must be LAYER=VALUE, such as stem.bias=3ep"),
        ({"weights": {"freeze_after": {"stm": "1ep"}}}, "'stm' matches no parameter that trains"),
        ({"optimizer": {"name": "muon", "layer_l2": "hed=2"}}, r"optimizer\.layer_l2: 'hed' matches no parameter"),
    ):
        with pytest.raises(RecipeError, match=said):
            build_session(prepare(wish(tiny, tmp_path, **settings)))
