"""Weights of several epochs as one: an honest account, statistics that fit, and a file that predicts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import ModelFileError, RecipeError
from halftone.data.config import DataConfig
from halftone.run.averaging import average_files
from halftone.run.checkpoint import checkpoints
from halftone.run.file_evaluation import evaluate_file
from halftone.run.folder import RunFolder
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.model_file import load_model
from halftone.run.soup_judge import Judge
from halftone.run.training import training
from halftone.run.weight_files import open_weights, run_of
from halftone.weights.files import load_weights, save_plain
from samples import stripes, wish, write_npz


def trained(source: Path, root: Path, name: str, **settings: Any) -> Path:
    for _ in training(wish(source, root, run={"name": name, "keep": 10}, **{"epochs": 3, **settings})):
        pass
    return root / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in their seed, `one` and `two`, on images that are not told easily."""
    root = tmp_path_factory.mktemp("runs")
    source = write_npz(root / "tiny.npz", test=90, classes=4)
    rate = {"optimizer": {"name": "sgd", "lr": 0.02}}
    trained(source, root, "one", **rate)
    trained(source, root, "two", seed=1, **rate)
    return root


def newest(run: Path, count: int) -> list[Path]:
    return sorted(checkpoints(run / "checkpoints")[:count])


@pytest.mark.parametrize("method", ["uniform", "ema", "greedy"])
def test_the_card_says_what_evaluation_finds(runs: Path, tmp_path: Path, method: Any) -> None:
    out = tmp_path / "soup.safetensors"
    found = average_files([runs / "one"], out, method=method, last=3)
    assert len(found.ingredients) == 3
    assert sorted(one.file for one in found.ingredients) == [str(path) for path in newest(runs / "one", 3)]
    assert found.accuracy == found.whole
    assert (found.num_images, found.num_held_out, found.held_out) == (90, 0, None)
    card = load_model(out).card
    assert card.accuracy == found.accuracy
    assert card.classes == ("across", "aslant", "down", "other")
    again = evaluate_run(runs / "one", weights=str(out))
    assert (again.metrics.accuracy, again.metrics.loss) == (card.accuracy, card.loss)
    alone = evaluate_file(out, DataConfig(source=str(runs / "tiny.npz")), device="cpu")
    assert alone.metrics.accuracy == card.accuracy
    prediction = next(Classifier.load(out, device="cpu").predict([stripes(1)[0][0]]))
    assert prediction.label in card.classes


def test_each_file_is_judged_as_the_run_was(runs: Path, tmp_path: Path) -> None:
    """So the accuracies are comparable: the last checkpoint is what `last.safetensors` holds."""
    found = average_files([runs / "one"], tmp_path / "a.safetensors", last=2)
    last = load_model(runs / "one/last.safetensors").card
    assert found.ingredients[-1].accuracy == last.accuracy
    assert open_weights(newest(runs / "one", 1)[0]).step == last.step


@pytest.mark.parametrize("holdout", [0.0, 0.5])
def test_a_greedy_soup_is_never_below_the_best_single_one(runs: Path, tmp_path: Path, holdout: float) -> None:
    files = [*newest(runs / "one", 4), *newest(runs / "two", 4)]
    found = average_files(files, tmp_path / "soup.safetensors", method="greedy", holdout=holdout)
    assert found.accuracy is not None
    alone = [one.accuracy for one in found.ingredients if one.accuracy is not None]
    assert len(alone) == 8
    assert alone == sorted(alone, reverse=True)
    assert found.accuracy >= max(alone)
    assert found.best_single == found.ingredients[0]
    best = found.ingredients[0].with_it
    for one in found.ingredients[1:]:
        assert one.with_it is not None and best is not None
        assert one.added == (one.with_it >= best)
        best = one.with_it if one.added else best
    assert found.accuracy == best


def test_images_that_are_held_out_are_not_chosen_on(runs: Path, tmp_path: Path) -> None:
    paths = newest(runs / "one", 3)
    kept = average_files(paths, tmp_path / "a.safetensors", holdout=0.5)
    other = average_files(paths, tmp_path / "b.safetensors", holdout=0.5, split_seed=1)
    plain = average_files(paths, tmp_path / "c.safetensors")
    assert kept.num_images + kept.num_held_out == 90
    assert 40 <= kept.num_held_out <= 50
    assert kept.accuracy is not None and kept.held_out is not None and plain.accuracy is not None
    both = kept.accuracy * kept.num_images + kept.held_out * kept.num_held_out
    assert both / 90 == pytest.approx(plain.accuracy)
    assert kept.whole == plain.whole
    assert [one.accuracy for one in kept.ingredients] != [one.accuracy for one in other.ingredients]


def test_one_file_that_remains_is_left_as_it_is(runs: Path, tmp_path: Path) -> None:
    """Beside a network that was just begun, the best is added to nothing."""
    first, best = min(checkpoints(runs / "one/checkpoints")), runs / "one/best.safetensors"
    out = tmp_path / "soup.safetensors"
    found = average_files([first, best], out, method="greedy")
    assert [one.added for one in found.ingredients] == [True, False]
    assert found.statistics == "those of the one file that remains"
    kept, single = load_weights(out).tensors, load_weights(best).tensors
    assert all(torch.equal(kept[name], tensor) for name, tensor in single.items())


def test_statistics_are_measured_anew_and_fit_better(runs: Path, tmp_path: Path) -> None:
    """Judged by what they are for: the layers' inputs have mean 0 and deviation 1 after them."""
    files = [newest(runs / "one", 1)[0], newest(runs / "two", 1)[0]]
    gaps = []
    for how in ("recompute", "average"):
        out = tmp_path / f"{how}.safetensors"
        found = average_files(files, out, statistics=how)  # type: ignore[arg-type]
        assert ("measured anew on 96 training images" in found.statistics) == (how == "recompute")
        loaded = load_model(out).module
        seen: list[float] = []
        norms = [layer for layer in loaded.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in norms:
            layer.register_forward_pre_hook(
                lambda own, given, seen=seen: seen.append(
                    float(((given[0].var((0, 2, 3)) / own.running_var).log() ** 2).mean())  # type: ignore[operator]
                )
            )
        judge = Judge.of_run(RunFolder(runs / "one"), data=None, root=None, holdout=0, split_seed=0, device="cpu",
                             model=None)  # fmt: skip
        with torch.no_grad():
            for batch in judge._batches():
                loaded(batch)
        gaps.append(sum(seen))
    assert gaps[0] < 0.3 * gaps[1]


def test_statistics_of_frozen_layers_are_kept(runs: Path, tmp_path: Path) -> None:
    """The norms stand still in a run with a frozen backbone, and so they do in its average."""
    start = runs / "one/best.safetensors"
    run = trained(runs / "tiny.npz", tmp_path, "frozen", weights={"file": start, "freeze": "backbone"})
    found = average_files([run], tmp_path / "out.safetensors", last=3)
    assert found.statistics == "the same in all files, kept"
    before, after = (
        load_weights(path).tensors for path in (runs / "one/best.safetensors", tmp_path / "out.safetensors")
    )
    assert torch.equal(before["stem.1.running_var"], after["stem.1.running_var"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_other_images_can_be_judged_by(runs: Path, tmp_path: Path) -> None:
    other = write_npz(tmp_path / "other.npz", test=40, classes=4, size=20)
    found = average_files([runs / "one"], tmp_path / "a.safetensors", last=2, data=str(other))
    assert found.num_images == 40


def test_of_a_run_with_an_average_of_its_own_that_is_taken(runs: Path, tmp_path: Path) -> None:
    run = trained(runs / "tiny.npz", tmp_path, "ema", average=0.9)
    opened = open_weights(newest(run, 1)[0])
    assert opened.kind == "the averaged weights of a checkpoint"
    last = load_weights(run / "last.safetensors").tensors
    assert all(torch.equal(last[name], tensor) for name, tensor in opened.tensors.items())


def test_files_without_a_run_are_averaged_by_their_tensors(runs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes((runs / name / "best.safetensors").read_bytes())
        save_plain(tmp_path / f"{name}-plain.safetensors", load_weights(runs / name / "best.safetensors").tensors)
    with_card, plain = ([tmp_path / f"{name}{kind}.safetensors" for name in ("one", "two")] for kind in ("", "-plain"))
    assert run_of(plain[0]) is None
    found = average_files(with_card, tmp_path / "soup.safetensors")
    assert found.has_card and found.accuracy is None and "--run RUN" in found.statistics
    assert load_model(tmp_path / "soup.safetensors").card.accuracy is None
    assert not average_files(plain, tmp_path / "plain.safetensors", method="ema").has_card
    assert load_weights(tmp_path / "plain.safetensors").header == {}
    # the run makes up for it
    judged = average_files(plain, tmp_path / "judged.safetensors", run=runs / "one", method="greedy")
    assert judged.has_card and judged.accuracy is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "takes two files or more, not 1"),
        ({"last": 0}, "last = 0"),
        ({"last": 2, "holdout": 1.0}, "holdout = 1"),
        ({"last": 2, "method": "ema", "decay": 1.0}, "decay = 1"),
    ],
)
def test_wrong_requests(runs: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        average_files([runs / "one"], tmp_path / "out.safetensors", **options)
    assert not list(tmp_path.iterdir())


def test_a_choice_needs_images(runs: Path, tmp_path: Path) -> None:
    for name in "ab":
        save_plain(tmp_path / f"{name}.safetensors", load_weights(runs / "one/best.safetensors").tensors)
    with pytest.raises(RecipeError, match="lies in no run") as caught:
        average_files([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "out", method="greedy")
    assert "--run RUN" in caught.value.hint


def test_files_of_other_networks_and_other_classes_are_refused(runs: Path, tmp_path: Path) -> None:
    source = write_npz(tmp_path / "three.npz", classes=3)
    three = trained(source, tmp_path, "three", epochs=1)
    with pytest.raises(ModelFileError, match="its classes or its input differ"):
        average_files([runs / "one", three], tmp_path / "out.safetensors")
    cnn = trained(runs / "tiny.npz", tmp_path, "cnn", model="cnn", epochs=1)
    with pytest.raises(ModelFileError, match="differ"):
        average_files([runs / "one", cnn], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_are_not_finite_are_refused_by_the_name_of_their_file(runs: Path, tmp_path: Path) -> None:
    broken = load_weights(runs / "one/best.safetensors").tensors
    broken["head.bias"][0] = float("nan")
    save_plain(tmp_path / "broken.safetensors", broken)
    with pytest.raises(ModelFileError, match=r"broken\.safetensors holds weights that are not finite: head\.bias"):
        average_files([runs / "one", tmp_path / "broken.safetensors"], tmp_path / "out.safetensors")


def test_a_damaged_file_is_refused(runs: Path, tmp_path: Path) -> None:
    content = bytearray((runs / "one/best.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged"):
        average_files([runs / "one", tmp_path / "bad.safetensors"], tmp_path / "out.safetensors")
