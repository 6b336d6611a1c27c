"""What is compared when a run goes on: exact, not exact and why, or refused."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from halftone.base.errors import Interrupted, ModelFileError, ResourceError
from halftone.run import fingerprint
from halftone.run.events import Event, Notice, StepTaken
from halftone.run.folder import RunFolder
from halftone.run.plan.make import make_plan
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from samples import wish, write_npz


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that was stopped at step 4."""
    data = write_npz(tmp_path / "tiny.npz", train=48, size=8)
    recipe = wish(data, tmp_path / "runs", model="plain4", lr=0.02, run={"name": "run"})
    return stopped(training(recipe, stop=(stop := StopRequest())), stop, tmp_path / "runs/run", tried=4)


def stopped(events: Any, stop: StopRequest, place: Path, *, tried: int) -> RunFolder:
    with pytest.raises(Interrupted):
        for event in events:
            if isinstance(event, StepTaken) and event.tried == tried:
                stop.signal = signal.SIGTERM
    return RunFolder(place)


def told(folder: RunFolder) -> list[str]:
    """What is said while a run goes on to its end."""
    events: list[Event] = list(resuming(folder.path))
    return [event.text for event in events if isinstance(event, Notice)]


def change(path: Path, old: str, new: str) -> None:
    assert path.read_text().count(old) >= 1, old
    path.write_text(path.read_text().replace(old, new))


def surround(folder: RunFolder, **changes: Any) -> None:
    values = json.loads(folder.environment.read_text())
    values["packages"] |= changes.pop("packages", {})
    folder.environment.write_text(json.dumps(values | changes))


def test_the_same_place_is_exact_and_it_is_noted(folder: RunFolder) -> None:
    said = told(folder)
    assert "resumed from step-000000004.safetensors: exact, as if it had never been stopped" in said
    assert json.loads(folder.fingerprint.read_text())["resumed"] == [{"step": 4, "not_exact": []}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"packages": {"torch": "2.0.1"}}, "torch: 2.0.1 when the run began, "),
        ({"packages": {"pillow": "9.0"}}, "pillow: 9.0 when"),
        ({"packages": {"halftone": "0.0.1"}}, "halftone: 0.0.1 when"),
        ({"processor": "another\x1b[31m one"}, "processor: another\\x1b[31m one when the run began, "),
        ({"threads": 16}, "threads: 16 when the run began, 1 now"),
        ({"deterministic": True}, "deterministic: True when"),
        ({"device": "a GPU"}, "device: a GPU when"),
    ],
)
def test_D17_another_place_is_not_exact_and_why(folder: RunFolder, changes: dict[str, Any], reason: str) -> None:
    surround(folder, **changes)
    said = next(text for text in told(folder) if text.startswith("resumed"))
    assert "step-000000004.safetensors: not exact, because" in said
    assert reason in said
    assert reason in json.loads(folder.fingerprint.read_text())["resumed"][0]["not_exact"][0]


def test_D17_what_was_once_not_exact_stays_so(folder: RunFolder) -> None:
    whole = folder.environment.read_text()
    surround(folder, packages={"torch": "2.0.1"})
    stop = StopRequest()
    stopped(resuming(folder.path, stop=stop), stop, folder.path, tried=5)
    folder.environment.write_text(whole)
    said = told(folder)
    assert any("step-000000005.safetensors: not exact, because it was not at step 4, either: torch" in t for t in said)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_where_it_began_may_be_unknown(folder: RunFolder, content: str | None) -> None:
    folder.environment.unlink()
    if content is not None:
        folder.environment.write_text(content)
    assert any("not exact, because it is not known where it began" in text for text in told(folder))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  batch_size: 16\n", "  batch_size: 12\n", "batch_size was 16 and is 12"),
        ("  seed: 0\n", "  seed: 1\n", "seed was 0 and is 1"),
        ("    lr: 0.02\n", "    lr: 0.03\n", "optimizer.lr was 0.02 and is 0.03"),
        ("  accumulate: 1\n", "  accumulate: 2\n", "accumulate was 1 and is 2"),
    ],
)
def test_D17_a_plan_that_was_changed_is_refused(folder: RunFolder, old: str, new: str, said: str) -> None:
    change(folder.plan, old, new)
    before = {path: path.read_bytes() for path in folder.checkpoints.iterdir()}
    with pytest.raises(ModelFileError, match=rf"plan.yaml was changed since the run began: .*{said}") as caught:
        list(resuming(folder.path))
    assert "start a new run from the weights" in caught.value.hint
    assert {path: path.read_bytes() for path in folder.checkpoints.iterdir()} == before


def test_D17_threads_of_a_changed_plan_are_not_exact(folder: RunFolder) -> None:
    change(folder.plan, "  threads: 1\n", "  threads: 2\n")
    assert any("threads: 1 when the run began, 2 now" in text for text in told(folder))


def test_runs_of_earlier_versions_have_no_fingerprint(folder: RunFolder) -> None:
    folder.fingerprint.unlink()
    assert any("exact, as if it had" in text for text in told(folder))
    assert len(json.loads(folder.fingerprint.read_text())["resumed"]) == 1


def test_a_disk_that_is_full_is_no_reason_not_to_train(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: Any) -> None:
        raise ResourceError(f"disk full while writing {path}")

    monkeypatch.setattr(fingerprint, "write_json", full)
    assert any("is not noted: disk full" in text for text in told(folder))


def test_kernels_of_a_gpu_need_not_repeat(folder: RunFolder, tmp_path: Path) -> None:
    plan = make_plan(wish(tmp_path / "tiny.npz", tmp_path, model="plain4")).plan
    for device, deterministic, expected in (("cpu", False, 0), ("cuda:1", False, 1), ("cuda:1", True, 0)):
        placed = plan.replaced(settled=plan.settled.replaced(device=device, deterministic=deterministic))
        found = list(fingerprint._unsteady(placed))
        assert len(found) == expected
        assert not found or found[0].startswith("some kernels on cuda add")
