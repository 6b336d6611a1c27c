"""Batches and images that do not fit each other: a rule that is stated, and nothing that fails in the last batch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from halftone.base.tables import read_table
from halftone.data.feed import Batch, Feed
from halftone.loop.events import BatchLeftOut, StepTaken
from halftone.loop.state import Progress
from halftone.loop.train import train as train_loop
from halftone.run.plan.make import make_plan
from halftone.verbs import train
from loop.small_sessions import session_of
from samples import stripes, wish


@pytest.mark.parametrize(
    ("count", "asked", "batch", "batches", "said"),
    [
        (9, 8, 8, 1, "1 image less than a batch of 8 left over, others in each epoch"),
        (11, 4, 4, 2, "3 images less than a batch of 4 left over, others in each epoch"),
        (9, 64, 9, 1, None),
        (12, 4, 4, 3, None),
    ],
)
def test_B9_images_that_do_not_fill_a_batch_are_left_for_another_epoch(
    tmp_path: Path, count: int, asked: int, batch: int, batches: int, said: str | None
) -> None:
    """The network has batch normalisation, for which a last batch of one image would be an error."""
    data = (stripes(count), stripes(6, seed=1))
    recipe = wish(Path("given"), tmp_path, batch_size=asked, epochs=4, lr=0.01, warmup="0it")
    plan = make_plan(recipe, data=data).plan
    assert (plan.settled.batch_size, plan.batches_per_epoch) == (batch, batches)
    assert [choice.reason for choice in plan.choices if choice.setting == "batches_per_epoch"] == (
        [said] if said else []
    )
    clipped = [choice.reason for choice in plan.choices if choice.setting == "batch_size"]
    assert clipped == (["64 was asked, but there are only 9 training images"] if asked > count else [])
    run = train(recipe, data=data)
    assert [int(row["step"]) for row in read_table(run.path / "results.csv")] == [batches * n for n in (1, 2, 3, 4)]


@dataclass(frozen=True, slots=True)
class _Broken:
    """A feed of whose third batch all images but one turn out to be broken."""

    feed: Feed

    def batches(self, *arguments: Any, **options: Any) -> Iterator[Batch]:
        for number, batch in enumerate(self.feed.batches(*arguments, **options)):
            yield Batch(batch.images[:1], batch.labels[:1], batch.indices[:1]) if number == 2 else batch


def test_B9_a_batch_of_which_one_image_is_left_is_left_out_and_said() -> None:
    session = session_of(waits=True, epochs=1)
    session = replace(session, feed=_Broken(session.feed))
    events = list(train_loop(session, Progress.start(session.device), max_skipped=10))
    assert [event.tried for event in events if isinstance(event, BatchLeftOut)] == [3]
    assert [event.tried for event in events if isinstance(event, StepTaken)] == [1, 2, *range(4, 13)]
