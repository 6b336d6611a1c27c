"""Going on with a run: stopped at its very end, with damaged files, beside another process, with other data."""

import errno
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from halftone.base.errors import DataError, Diverged, Interrupted, ModelFileError, ResourceError
from halftone.run import saving
from halftone.run.checkpoint import checkpoints
from halftone.run.events import BestSaved, Evaluating, Event, Finished, Notice, Planned, Started, StepTaken
from halftone.run.inference import evaluate_run
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.verbs import resume, train
from halftone.weights.files import load_sealed
from samples import numbers, stripes, wish, write_folder, write_npz


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


def same(first: Path, second: Path) -> bool:
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (load_sealed(folder / name).tensors for folder in (first, second))
        if one.keys() != other.keys() or not all(torch.equal(one[key], other[key]) for key in one):
            return False
    return numbers(first, "results.csv") == numbers(second, "results.csv")


class Stopper:
    """Asks for a stop at the first event of a kind that fits."""

    def __init__(self, stop: StopRequest, fits: Any) -> None:
        self.stop, self.fits = stop, fits

    def hear(self, event: Event) -> None:
        if self.fits(event):
            self.stop.signal = signal.SIGTERM

    def close(self) -> None:
        pass


ENDS = {
    "last step": lambda event: isinstance(event, StepTaken) and event.tried == 12,
    "last evaluation": lambda event: isinstance(event, Evaluating) and event.done == event.total,
    "first step": lambda event: isinstance(event, StepTaken) and event.tried == 1,
}


@pytest.mark.parametrize("moment", ENDS)
@pytest.mark.parametrize("change", [{}, {"max_steps": 9}], ids=["whole", "cut short"])
def test_D1_D3_a_stop_at_any_end_loses_nothing(tiny: Path, tmp_path: Path, moment: str, change: dict[str, Any]) -> None:
    straight = train(wish(tiny, tmp_path, **change)).path
    stop = StopRequest()
    recipe = wish(tiny, tmp_path, run={"name": "stopped"}, **change)
    last = change.get("max_steps", 12)
    fits = {**ENDS, "last step": lambda event: isinstance(event, StepTaken) and event.tried == last}[moment]
    with pytest.raises(Interrupted):
        train(recipe, listeners=[Stopper(stop, fits)], stop=stop)
    assert same(straight, resume(tmp_path / "stopped").path)


def test_D3_a_stop_ends_the_run_with_the_step_that_it_fell_into(tiny: Path, tmp_path: Path) -> None:
    folder = interrupted(wish(tiny, tmp_path / "runs"), tried=5)
    assert checkpoints(folder / "checkpoints")[0].name == "step-000000005.safetensors"


def test_D3_a_stop_while_preparing_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    stop = StopRequest(signal.SIGTERM)
    with pytest.raises(Interrupted, match="before the first step") as caught:
        list(training(wish(tiny, tmp_path / "runs"), stop=stop))
    assert caught.value.exit_code == 75
    assert not (tmp_path / "runs").exists()


def interrupted(recipe: Recipe, *, tried: int) -> Path:
    stop = StopRequest()
    with pytest.raises(Interrupted):
        train(recipe, listeners=[Stopper(stop, lambda e: isinstance(e, StepTaken) and e.tried == tried)], stop=stop)
    return next(recipe.run.root.glob("*"))


@pytest.mark.parametrize("workers", [0, 3])
def test_D17_other_workers_take_effect(tmp_path: Path, workers: int) -> None:
    root = write_folder(tmp_path / "set")
    recipe = wish(root, tmp_path / "runs", data={"feed": "streaming", "workers": 1})
    folder = interrupted(recipe, tried=2)
    planned = next(event for event in resuming(folder, workers=workers) if isinstance(event, Planned))
    assert planned.plan.settled.data.workers == workers


@pytest.mark.parametrize("keep", [1, 2])
def test_D31_a_damaged_newest_checkpoint_never_costs_the_new_ones(tiny: Path, tmp_path: Path, keep: int) -> None:
    recipe = wish(tiny, tmp_path / "runs", run={"checkpoint_every": "2it", "keep": keep + 1}, epochs=3)
    folder = interrupted(recipe, tried=9)
    newest = max((folder / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-9])
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace(f"keep: {keep + 1}", f"keep: {keep}"))
    stop = StopRequest()
    with pytest.raises(Interrupted):
        for event in resuming(folder, stop=stop):
            if isinstance(event, StepTaken) and event.tried == 9:
                stop.signal = signal.SIGTERM
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(left) == keep
    assert left[-1] == "step-000000009.safetensors"
    assert isinstance(list(resuming(folder))[-1], Finished)


def test_D14_two_processes_do_not_work_in_one_folder(tiny: Path, tmp_path: Path) -> None:
    folder = interrupted(wish(tiny, tmp_path / "runs"), tried=4)
    first = resuming(folder)
    next(first)
    with pytest.raises(ResourceError, match=r"another process works in .*: process \d+ on") as caught:
        list(resuming(folder))
    assert caught.value.exit_code == 6
    first.close()  # type: ignore[attr-defined]
    assert isinstance(list(resuming(folder))[-1], Finished)


def test_D21_a_checkpoint_of_another_network_is_refused(tiny: Path, tmp_path: Path) -> None:
    def network(width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(768, width), nn.ReLU(), nn.Linear(width, 3))

    stop = StopRequest()
    stopper = Stopper(stop, lambda event: isinstance(event, StepTaken))
    with pytest.raises(Interrupted):
        train(wish(tiny, tmp_path / "runs"), model=network(8), listeners=[stopper], stop=stop)
    with pytest.raises(ModelFileError, match="does not fit this run") as caught:
        list(resuming(next((tmp_path / "runs").glob("*")), model=network(9)))
    assert caught.value.hint


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("alloc: not enough memory")]
)
def test_D9_memory_that_does_not_suffice_for_two_images_is_said(tiny: Path, tmp_path: Path, error: Exception) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(768, 3), 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            if self.calls > 3:
                raise error
            return self.layer(images.flatten(1))

    with pytest.raises(ResourceError, match="out of memory") as caught:
        list(training(wish(tiny, tmp_path / "runs"), model=Greedy()))
    assert "smaller --size" in caught.value.hint
    assert list((tmp_path / "runs").glob("*/checkpoints/*.safetensors"))


def test_other_faults_of_a_network_are_not_taken_for_memory(tiny: Path, tmp_path: Path) -> None:
    class Faulty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(768, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise RuntimeError("of its own")
            return self.layer(images.flatten(1))

    with pytest.raises(RuntimeError, match="of its own"):
        list(training(wish(tiny, tmp_path / "runs"), model=Faulty()))


def full_disk(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    real, left = saving.save_model, times

    def save(path: Path, *rest: Any) -> None:
        nonlocal left
        if path.name == "best.safetensors" and left:
            left -= 1
            raise ResourceError(f"disk full while writing {path}") from OSError(errno.ENOSPC, "No space")
        real(path, *rest)

    monkeypatch.setattr(saving, "save_model", save)


def test_D6_the_best_weights_are_saved_as_soon_as_there_is_room(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with a rate this small in the second epoch the first stays the best one
    change: dict[str, Any] = {"decay": {"shape": "multistep", "milestones": "50%", "gamma": 1e-9}, "warmup": "none"}
    straight = train(wish(tiny, tmp_path, **change))
    full_disk(monkeypatch, times=1)
    events = list(training(wish(tiny, tmp_path, **change)))
    saved = [event for event in events if isinstance(event, BestSaved)]
    assert any(isinstance(event, Notice) and "could not be saved" in event.text for event in events)
    folder = next(event.folder for event in events if isinstance(event, Started))
    assert saved[-1].epoch == straight.history.best_epoch
    one, other = (load_sealed(place / "best.safetensors").tensors for place in (straight.path, folder.path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_D6_a_disk_that_stays_full_is_an_error_at_the_end(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch, times=100)
    with pytest.raises(ResourceError, match="disk full"):
        list(training(wish(tiny, tmp_path)))


def test_C8_weights_that_overflowed_are_in_no_checkpoint(tiny: Path, tmp_path: Path) -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(768, 3)
            self.register_buffer("counter", torch.zeros(()))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.counter += 1 if self.counter < 3 else float("inf")
            return self.layer(images.flatten(1))

    recipe = wish(tiny, tmp_path / "runs", run={"checkpoint_every": "1it", "keep": 100})
    with pytest.raises(Diverged, match="counter are not finite after step 4") as caught:
        list(training(recipe, model=Overflowing()))
    assert caught.value.exit_code == 5
    (folder,) = (tmp_path / "runs").glob("*")
    assert max((folder / "checkpoints").iterdir()).name == "step-000000003.safetensors"


def test_A30_A35_evaluate_refuses_data_that_has_changed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    run = train(wish(root, tmp_path / "runs"))
    for part in ("train", "val"):
        (root / part / "across").rename(root / part / "zebra")  # another order of the classes
    with pytest.raises(DataError, match="the data changed") as caught:
        evaluate_run(run.path)
    assert "halftone evaluate RUN DATA" in caught.value.hint
    with pytest.raises(DataError, match="does not know: zebra"):
        evaluate_run(run.path, str(root / "val"))


def test_D22_weights_of_another_run_are_not_evaluated(tiny: Path, tmp_path: Path) -> None:
    run = train(wish(tiny, tmp_path / "runs"))
    images, labels = stripes(60, classes=3)
    other = train(wish(tiny, tmp_path / "runs"), data=(torch.from_numpy(images), torch.from_numpy(labels)))
    with pytest.raises(ModelFileError, match="belongs to another run"):
        evaluate_run(run.path, weights=str(other.path / "best.safetensors"))


def test_evaluate_data_from_python_on_what_was_held_out(tiny: Path, tmp_path: Path) -> None:
    images, labels = stripes(60, classes=3)
    data = (torch.from_numpy(images), torch.from_numpy(labels))
    run = train(wish(tiny, tmp_path / "runs"), data=data)
    found = evaluate_run(run.path, data=data)
    assert found.metrics == run.metrics
    assert found.metrics.num_images == 12


def test_weights_of_a_run_bring_their_input_and_not_the_head_of_other_classes(tiny: Path, tmp_path: Path) -> None:
    first = train(wish(tiny, tmp_path / "runs"))
    images, labels = stripes(60, classes=3, size=20)
    data = (torch.from_numpy(images // 2), torch.from_numpy(labels))  # darker, and classes called 0, 1, 2
    second = train(wish(tiny, tmp_path / "runs", weights=str(first.path / "best.safetensors")), data=data)
    assert second.plan.input == first.plan.input
    reasons = {choice.setting: choice.reason for choice in second.plan.choices}
    assert reasons["data.size"] == "the size that the weights were trained on"
    assert "fresh head (head.weight, head.bias)" in second.plan.weights


def test_a_known_name_is_no_folder_that_happens_to_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    run = train(wish(Path("digits"), tmp_path / "runs", max_steps=2))
    assert run.plan.settled.data.source == "digits"
    assert evaluate_run(run.path).metrics == run.metrics
