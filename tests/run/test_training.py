"""Whole runs in one process: what they leave behind, and that going on equals never having stopped."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import (
    DataError,
    Diverged,
    Interrupted,
    ModelFileError,
    RecipeError,
    ResourceError,
)
from halftone.base.tables import read_table
from halftone.loop.events import EpochDone, StepTaken, Unreadable
from halftone.run.events import BestSaved, CheckpointSaved, Event, Finished, Notice, Planned, Started, Tested
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.verbs import resume, train
from halftone.weights.files import load_sealed
from samples import numbers, stripes, wish, write_folder, write_npz


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


def weights(folder: Path, name: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return load_sealed(folder / name).tensors


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_everything_in_its_folder(tiny: Path, tmp_path: Path) -> None:
    recipe = wish(tiny, tmp_path, epochs=6, optimizer="adamw", lr=0.01, run={"report": True, "tensorboard": True})
    run = train(recipe)
    expected = {
        "recipe.yaml", "plan.yaml", "environment.json", "results.csv", "steps.csv", "best.safetensors",
        "last.safetensors", "checkpoints", "results.png", "lr.png", "precision.png", "confusion_matrix.png",
        "train_batch.jpg", "classification_report.json", "predictions.csv", "report.html", "mistakes.json",
    }  # fmt: skip
    left = {path.name for path in run.path.iterdir()}
    assert expected <= left
    assert any(name.startswith("events.out") for name in left)
    assert not any(name.endswith(".tmp") for name in left)
    rows = read_table(run.path / "results.csv")
    columns = (
        "epoch step seconds train_loss val_loss val_accuracy val_top5 val_precision val_recall val_f1 lr "
        "images_per_second peak_memory_mb loss_scale skipped_steps"
    )
    assert " ".join(list(rows[0])[:15]) == columns
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert len(read_table(run.path / "steps.csv")) == 36
    assert run.metrics.accuracy == max(float(row["val_accuracy"]) for row in rows)
    assert run.metrics.accuracy is not None and run.metrics.accuracy > 0.8
    page = (run.path / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "usual for the decoupled decay of adamw" in page
    assert len(read_table(run.path / "predictions.csv")) == 24


def test_events_come_in_order(tiny: Path, tmp_path: Path) -> None:
    kinds = [type(event) for event in training(wish(tiny, tmp_path, epochs=1))]
    assert kinds[0] is Planned
    assert kinds[1] is Started
    assert kinds[-1] is Finished
    assert kinds.count(StepTaken) == 6
    assert kinds.index(EpochDone) < kinds.index(BestSaved) < len(kinds) - 1


def test_runs_repeat_exactly_and_seeds_differ(tiny: Path, tmp_path: Path) -> None:
    runs = [train(wish(tiny, tmp_path, seed=seed, augment="strong")).path for seed in (0, 0, 1)]
    assert same(weights(runs[0]), weights(runs[1]))
    assert numbers(runs[0], "steps.csv") == numbers(runs[1], "steps.csv")
    assert not same(weights(runs[0]), weights(runs[2]))


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "accumulated": {"accumulate": 4},
    "average": {"average": 0.9},
    "adamw": {"optimizer": "adamw"},
    "muon": {"optimizer": "muon"},
    "plateau": {"decay": {"shape": "plateau", "patience": 0}},
    "mixed": {"augment": {"policy": "strong", "mixup": 0.2, "cutmix": 1.0}},
    "dropout": {"model": {"name": "cnn", "dropout": 0.3}},
    "balanced": {"data": {"balanced": True}, "loss": {"class_weights": "balanced"}, "l1": 1e-5},
    "early stop": {"patience": 0, "epochs": 6, "lr": 1e-6},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_stopped_anywhere_and_resumed_equals_never_stopped(tiny: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    straight = train(wish(tiny, tmp_path, **change)).path
    stop = StopRequest()
    events = training(wish(tiny, tmp_path, **change), stop=stop)
    folder = _stop_at(events, stop, tried=4)  # within the first epoch
    _stop_at(resuming(folder, stop=stop), stop, tried=6)  # at its end, before it is evaluated
    stop.signal = None
    list(resuming(folder))
    assert same(weights(straight), weights(folder))
    assert same(weights(straight, "best.safetensors"), weights(folder, "best.safetensors"))


def _stop_at(events: Any, stop: StopRequest, *, tried: int) -> Path:
    folder: Path | None = None
    stop.signal = None
    with pytest.raises(Interrupted) as caught:
        for event in events:
            if isinstance(event, Started):
                folder = event.folder.path
            if isinstance(event, StepTaken) and event.tried == tried:
                stop.signal = signal.SIGTERM
    assert caught.value.exit_code == 75
    assert "--resume" in caught.value.hint
    assert folder is not None
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_stopped_and_resumed_with_other_workers(tmp_path: Path, workers: int) -> None:
    root = write_folder(tmp_path / "set")
    change: dict[str, Any] = {"data": {"feed": "streaming", "workers": workers}, "augment": {"resized_crop": "0.5,1"}}
    straight = train(wish(root, tmp_path, **change)).path
    stop = StopRequest()
    folder = _stop_at(training(wish(root, tmp_path, **change), stop=stop), stop, tried=2)
    resumed = resume(folder, workers=2 - workers)
    assert same(weights(straight), weights(resumed.path))


def test_D30_the_tables_of_a_resumed_run_have_no_row_twice_and_none_missing(tiny: Path, tmp_path: Path) -> None:
    straight = train(wish(tiny, tmp_path)).path
    killed = tmp_path / "killed"
    recipe = wish(tiny, tmp_path, run={"name": "killed", "checkpoint_every": "2it"})
    steps = 0

    class Kill(BaseException):  # no fault of a listener, which would only be left out
        pass

    class Killer:
        def hear(self, event: Event) -> None:
            nonlocal steps
            steps += isinstance(event, StepTaken)
            if steps == 9:
                raise Kill

        def close(self) -> None:
            pass

    with pytest.raises(Kill):
        train(recipe, listeners=[Killer()])
    with (killed / "steps.csv").open("a") as table:
        table.write("9,9,2,3,0.1")  # a line that a killed process left unfinished
    resume(killed)
    assert numbers(straight, "steps.csv") == numbers(killed, "steps.csv")
    assert numbers(straight, "results.csv") == numbers(killed, "results.csv")
    assert same(weights(straight), weights(killed))


def test_D18_D19_a_damaged_checkpoint_is_named_and_the_one_before_used(tiny: Path, tmp_path: Path) -> None:
    straight = train(wish(tiny, tmp_path)).path
    stop = StopRequest()
    folder = _stop_at(training(wish(tiny, tmp_path, run={"checkpoint_every": "2it"}), stop=stop), stop, tried=5)
    newest = max((folder / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    events = list(resuming(folder))
    assert any(isinstance(event, Notice) and newest.name in event.text for event in events)
    assert same(weights(straight), weights(folder))
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="no whole checkpoint"):
        list(resuming(folder))


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    stop = StopRequest()
    folder = _stop_at(training(wish(root, tmp_path), stop=stop), stop, tried=2)
    shutil.copy(root / "train/down/0002.png", root / "train/down/new.png")
    with pytest.raises(DataError, match=r"the data changed.*60 training images then and 61 now"):  # A35
        list(resuming(folder))
    with pytest.raises(ModelFileError, match="not a run folder"):
        list(resuming(tmp_path))


def test_resuming_a_finished_run_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    run = train(wish(tiny, tmp_path))
    before = weights(run.path), (run.path / "results.csv").read_text()
    resume(run.path)
    assert same(before[0], weights(run.path))
    assert before[1] == (run.path / "results.csv").read_text()


def test_evaluate_and_predict_agree_with_training_also_after_a_move(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    run = train(wish(root, tmp_path / "runs", precision="bf16", data={"feed": "streaming"}))
    told = run.metrics
    moved = tmp_path / "elsewhere"
    shutil.move(run.path, moved)
    evaluated = evaluate_run(moved)
    assert evaluated.metrics == told
    assert evaluated.part == "validation"
    classifier = Classifier.load(moved)
    rows = read_table(moved / "predictions.csv")
    files = [root / row["name"] for row in rows]
    assert [prediction.label for prediction in classifier.predict(files)] == [row["predicted"] for row in rows]
    assert evaluated.images.name(0) == rows[0]["name"]
    assert evaluate_run(moved, str(root)).metrics == told  # its own data, by name
    last = evaluate_run(moved, weights="last")
    final = read_table(moved / "results.csv")[-1]
    assert repr(last.metrics.accuracy) == final["val_accuracy"]
    assert repr(last.metrics.loss) == final["val_loss"]


def test_evaluate_other_data_by_class_name(tiny: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", size=16)
    run = train(wish(root, tmp_path / "runs", epochs=8, optimizer="adamw", lr=0.01))
    shutil.move(root / "val" / "across", root / "val" / "unheard")
    with pytest.raises(DataError, match="classes that the model does not know: unheard"):  # A30
        evaluate_run(run.path, str(root / "val"))
    shutil.rmtree(root / "val" / "unheard")
    evaluation = evaluate_run(run.path, str(root / "val"))  # fewer classes, so other numbers
    assert evaluation.part == "train"
    assert evaluation.metrics.num_images == 12
    assert evaluation.metrics.classes[0].recall is None
    assert evaluation.metrics.accuracy is not None and evaluation.metrics.accuracy > 0.5


def test_a_part_kept_for_the_end_is_tested_once(tiny: Path, tmp_path: Path) -> None:
    events = list(training(wish(tiny, tmp_path, data={"validation": 0.25})))
    tested = [event for event in events if isinstance(event, Tested)]
    assert len(tested) == 1
    assert tested[0].evaluation.metrics.num_images == 24


def test_B7_a_taken_name_is_refused_before_anything_happens(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    with pytest.raises(RecipeError, match="is taken"):
        train(wish(tiny, tmp_path, run={"name": "mine"}))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="a file is in its place"):  # B10
        train(wish(tiny, tmp_path, run={"name": "file"}))
    numbered = [train(wish(tiny, tmp_path, max_steps=1)).path.name for _ in range(2)]
    assert numbered == ["tiny-cifar_resnet8-1", "tiny-cifar_resnet8-2"]


class _Poisoned(nn.Module):
    """A network whose output is not a number from some call on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.layer = nn.Linear(768, 3)
        self.after, self.calls = after, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        outputs = self.layer(images.flatten(1))
        return outputs * float("nan") if self.training and self.calls > self.after else outputs


def test_C2_C8_divergence_stops_with_the_last_good_state_on_disk(tiny: Path, tmp_path: Path) -> None:
    recipe = wish(tiny, tmp_path, epochs=20, run={"name": "run"}, precision={"mode": "fp32", "max_skipped": 10})
    with pytest.raises(Diverged, match="10 steps in a row") as caught:
        list(training(recipe, model=_Poisoned(after=8)))
    assert caught.value.hint
    for tensor in weights(tmp_path / "run", "best.safetensors").values():
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("cache", ["off", "disk"])
def test_A34_a_file_lost_while_training_is_left_out_and_named(tmp_path: Path, cache: str) -> None:
    root = write_folder(tmp_path / "set", train=120)
    recipe = wish(root, tmp_path, data={"feed": "streaming", "workers": 1, "cache": cache}, epochs=3)
    seen: list[str] = []
    for event in training(recipe):
        if isinstance(event, EpochDone) and event.epoch == 1:
            (root / "train/across/0000.png").unlink()
        if isinstance(event, Unreadable):
            seen.append(event.fault.name)
    assert set(seen) == ({"train/across/0000.png"} if cache == "off" else set())  # a kept picture needs no file


def test_A36_unreadable_images_are_named_once_and_counted_to_the_limit(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", train=240)
    (root / "train/across/0000.png").write_bytes(b"")
    # whole in its header, broken in its pixels: found only when it is decoded
    cut = (root / "train/down/0002.png").read_bytes()
    (root / "train/down/0002.png").write_bytes(cut[: len(cut) // 2])
    run = train(wish(root, tmp_path, data={"feed": "streaming"}))
    rows = read_table(run.path / "unreadable.csv")
    assert [(row["part"], row["name"]) for row in rows] == [
        ("train", "train/across/0000.png"),
        ("train", "train/down/0002.png"),
    ]
    assert run.plan.data.num_unreadable == 1
    (root / "train/aslant/0001.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(DataError, match="at most 2 are skipped"):
        train(wish(root, tmp_path, data={"feed": "streaming"}))


def test_D6_a_full_disk_keeps_the_run_going(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from halftone.run import checkpoint

    real, calls = checkpoint.save_sealed, 0

    def full(path: Path, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ResourceError(f"disk full while writing {path}") from OSError(errno.ENOSPC, "No space")
        real(path, *rest)

    monkeypatch.setattr(checkpoint, "save_sealed", full)
    events = list(training(wish(tiny, tmp_path, run={"checkpoint_every": "2it"})))
    assert any(isinstance(event, Notice) and "the one before it is kept" in event.text for event in events)
    assert any(isinstance(event, CheckpointSaved) for event in events)
    assert isinstance(events[-1], Finished)


def test_transfer_from_a_run_to_other_classes(tiny: Path, tmp_path: Path) -> None:
    first = train(wish(tiny, tmp_path))
    images, labels = stripes(64, classes=4)
    recipe = wish(tiny, tmp_path, weights=str(first.path / "best.safetensors"), freeze="backbone")
    second = train(recipe, data=(torch.from_numpy(images), torch.from_numpy(labels)))
    assert "fresh head (head.weight, head.bias)" in second.plan.weights
    rate = next(choice for choice in second.plan.choices if choice.setting == "optimizer.lr")
    assert "only the head trains, and it is fresh" in rate.reason
    before, after = weights(first.path, "best.safetensors"), weights(second.path)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved == ["head.weight", "head.bias"] or set(moved) == {"head.weight", "head.bias"}


def test_network_from_python_resumes_and_predicts(tiny: Path, tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(768, 3))

    stop = StopRequest()
    folder = _stop_at(training(wish(tiny, tmp_path), model=network(), stop=stop), stop, tried=2)
    run = resume(folder, model=network())
    images, _ = stripes(3, seed=9)
    predictions = list(Classifier.load(run.path, model=network()).predict(list(images)))
    assert {prediction.label for prediction in predictions} <= {"across", "aslant", "down"}
    with pytest.raises((ModelFileError, RecipeError)):
        Classifier.load(run.path)


def test_environment_names_versions_but_no_machine(tiny: Path, tmp_path: Path) -> None:
    import socket

    run = train(wish(tiny, tmp_path, max_steps=1))
    found = json.loads((run.path / "environment.json").read_text())
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert socket.gethostname() not in json.dumps(found).split('"')
