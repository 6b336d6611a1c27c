"""What an epoch waited for images is counted, saved, and missing from older checkpoints without harm."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from halftone.data.feed import Batch, Feed
from halftone.data.order import Order
from halftone.loop.events import EpochDone
from halftone.loop.session import Session
from halftone.loop.state import Progress, capture, restore
from halftone.loop.train import train
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from samples import stripes


class Late:
    """Brings each batch a while later."""

    def __init__(self, feed: Feed, seconds: float) -> None:
        self.feed, self.seconds = feed, seconds

    def batches(self, order: Order, batch_size: int, *, epoch: int | None = None, first: int = 0) -> Iterator[Batch]:
        for batch in self.feed.batches(order, batch_size, epoch=epoch, first=first):
            time.sleep(self.seconds)
            yield batch


def session() -> Session:
    images, labels = stripes(32)
    recipe = Recipe(model="cnn", precision="fp32", threads=1, batch_size=8, epochs=2, device="cpu", warmup="none")
    return build_session(make_plan(recipe, data=((images, labels), (images, labels))))


def test_an_epoch_knows_what_it_waited_for_images() -> None:
    built = session()
    late = replace(built, feed=Late(built.feed, 0.03))
    progress = Progress.start(built.device)
    done = [event for event in train(late, progress, max_skipped=4) if isinstance(event, EpochDone)]
    assert len(done) == 2
    for event in done:  # four batches each; an epoch does not inherit from the one before
        assert 0.12 <= event.data_wait_seconds < event.train_seconds
        assert event.data_wait_seconds == pytest.approx(0.12, abs=0.09)


def test_an_older_checkpoint_that_did_not_count_it_is_restored() -> None:
    built, progress = session(), Progress.start(session().device)
    progress.tried, progress.wait_seconds = 5, 1.5
    state = capture(built, progress)
    assert state["progress"].pop("wait_seconds") == 1.5
    fresh = Progress.start(built.device)
    restore(built, fresh, state)
    assert (fresh.tried, fresh.wait_seconds) == (5, 0.0)
