"""Training images to compare with, and the verdict at the end of a run, also of one that was stopped and resumed."""

import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftone.base.errors import Interrupted
from halftone.base.files import read_json
from halftone.loop.events import EpochDone
from halftone.run.events import Event, Finished, Judged, Started
from halftone.run.learned import fit_sample
from halftone.run.stopping import StopRequest
from halftone.run.training import resuming, training
from halftone.track.fan import told
from halftone.track.tables import Tables
from samples import wish, write_npz


@given(st.integers(1, 200), st.integers(0, 2**31), st.integers(2, 5))
def test_each_class_is_drawn_as_often_as_in_validation(most: int, seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    train, validation = random.integers(0, classes, 300), random.integers(0, classes, 80)
    drawn = fit_sample(train, validation, most, seed=seed)
    assert len(np.unique(drawn)) == len(drawn) <= 80
    assert (np.diff(drawn) > 0).all()
    counts = np.bincount(train[drawn], minlength=classes)
    wanted = np.bincount(validation, minlength=classes) * min(1, most / 80)
    assert (np.abs(counts - wanted) <= 1).all() or most >= 80  # rounding, and one image at least
    assert np.array_equal(drawn, fit_sample(train, validation, most, seed=seed))


def test_a_class_with_few_training_images_gives_them_all() -> None:
    train, validation = np.array([0] * 50 + [1] * 3), np.array([0] * 10 + [1] * 10)
    assert np.bincount(train[fit_sample(train, validation, 100, seed=0)]).tolist() == [10, 3]
    assert len(fit_sample(train, validation[:0], 100, seed=0)) == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


def judged(events: list[Event]) -> Judged:
    (found,) = [event for event in events if isinstance(event, Judged)]
    return found


def test_the_verdict_comes_at_the_end_and_can_be_left_out(tiny: Path, tmp_path: Path) -> None:
    events = list(training(wish(tiny, tmp_path)))
    assert [type(event) for event in events[-2:]] == [Judged, Finished]
    found = judged(events)
    assert found.training is not None
    assert found.training.num_images == 24
    few = judged(list(training(wish(tiny, tmp_path, run={"fit_images": 6}))))
    assert few.training is not None
    assert few.training.num_images == 6
    off = judged(list(training(wish(tiny, tmp_path, run={"fit_images": 0}))))
    assert off.training is None
    assert off.verdict.kind == "unclear"


def test_a_run_that_was_resumed_is_judged_like_one_that_was_not(tiny: Path, tmp_path: Path) -> None:
    settings = {"epochs": 5, "optimizer": "adamw", "lr": 0.02}
    straight = list(told(training(wish(tiny, tmp_path, **settings)), [Tables()]))
    stop, folder = StopRequest(), tmp_path
    with pytest.raises(Interrupted):
        for event in told(training(wish(tiny, tmp_path, **settings), stop=stop), [Tables()]):
            if isinstance(event, Started):
                folder = event.folder.path
            if isinstance(event, EpochDone) and event.epoch == 4:
                stop.signal = signal.SIGTERM
    assert judged(list(told(resuming(folder), [Tables()]))) == judged(straight)
    assert read_json(folder / "train_report.json")["verdict"] == judged(straight).verdict.model_dump(mode="json")
