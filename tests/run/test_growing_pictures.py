"""Pictures that grow in the course of a run: said in the plan, exact when resumed, evaluated at their full size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.loop.events import PicturesGrown
from halftone.run.events import FirstBatch
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.measuring import measuring
from halftone.run.prepare import prepare
from halftone.run.training import training
from halftone.track.wording import sentence
from halftone.verbs import train
from halftone.weights.files import load_sealed
from samples import numbers, stopped_and_resumed, wish, write_folder, write_npz


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six batches an epoch, of 12 pixels a side."""
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz", size=12)


def growing(source: Path, root: Path, **settings: Any) -> Any:
    data = {"progressive": "6=5it,8=1ep", **settings.pop("data", {})}
    return wish(source, root, model="plain4", data=data, **settings)


def test_the_plan_says_the_sizes_and_what_they_save(tiny: Path, tmp_path: Path) -> None:
    plan = prepare(growing(tiny, tmp_path)).plan
    assert [(early.size, early.until) for early in plan.early_sizes] == [(6, 5), (8, 6)]
    choice = next(choice for choice in plan.choices if choice.setting == "data.progressive")
    assert choice.value == "6 pixels to step 5, 8 pixels to step 6"
    share = (5 * 36 + 1 * 64 + 6 * 144) / (12 * 144)
    assert choice.reason == f"then 12; {share:.0%} of the pixels of a run without it"
    assert prepare(wish(tiny, tmp_path)).plan.early_sizes == ()


def test_the_network_sees_them_grow_and_is_evaluated_at_full_size(tiny: Path, tmp_path: Path) -> None:
    seen: list[tuple[bool, int]] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3)
            self.head = nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            if images.device.type != "meta":
                seen.append((self.training, images.shape[3]))
            return self.head(self.body(images).relu().mean((2, 3)))

    events = list(training(growing(tiny, tmp_path), model=Watching()))
    assert [size for trains, size in seen if trains] == [6] * 5 + [8] + [12] * 6
    assert {size for trains, size in seen if not trains} == {12}
    grown = [event for event in events if isinstance(event, PicturesGrown)]
    assert [(event.tried, event.size) for event in grown] == [(5, 8), (6, 12)]
    assert sentence(grown[0]) == "pictures of 8 pixels from step 5 on"
    first = next(event for event in events if isinstance(event, FirstBatch))
    assert first.images.shape[2:] == (6, 6)


@pytest.mark.parametrize("kind", ["resident", "streaming", "crop"])
@pytest.mark.parametrize("stop_at", [2, 5, 6])
def test_a_resumed_run_is_one_that_was_never_stopped(
    tiny: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, stop_at: int
) -> None:
    source = write_folder(tmp_path / "set", train=96) if kind == "streaming" else tiny
    data = {"size": 12, "feed": "streaming"} if kind == "streaming" else {}
    data |= {"progressive_by": "crop"} if kind == "crop" else {}
    settings = {"data": data, "augment": {"resized_crop": "0.4,1"}}
    straight = train(growing(source, tmp_path, run={"name": "straight"}, **settings)).path
    stopped_and_resumed(growing(source, tmp_path, run={"name": "cut"}, **settings), tmp_path / "cut", stop_at)
    ends = [load_sealed(folder / "last.safetensors").tensors for folder in (straight, tmp_path / "cut")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert numbers(straight, "steps.csv") == numbers(tmp_path / "cut", "steps.csv")


def test_what_is_measured_for_a_plan_sees_full_pictures(tiny: Path, tmp_path: Path) -> None:
    with measuring(prepare(growing(tiny, tmp_path)), num_batches=1) as session:
        batch = next(session.feed.batches(session.order(0), session.batch_size, epoch=0))
        assert session.augment(batch, 0)[0].shape[3] == 12


def test_a_model_from_growing_pictures_is_evaluated_like_any(tiny: Path, tmp_path: Path) -> None:
    folder = train(growing(tiny, tmp_path, epochs=1)).path
    assert evaluate_run(folder, weights="last").metrics.num_images == 24
    assert Classifier.load(folder).card.input.size == 12


def test_a_size_that_the_network_does_not_take_is_refused(tiny: Path, tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * 12 * 12, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1))

    with pytest.raises(RecipeError, match="fails on pictures of 6 pixels") as caught:
        prepare(growing(tiny, tmp_path), model=Fixed())
    assert "--data.progressive" in str(caught.value.hint)
    with pytest.raises(RecipeError, match=r"data\.progressive = 12: pictures have 12 pixels"):
        prepare(growing(tiny, tmp_path, data={"progressive": "12=1ep"}))
    with pytest.raises(RecipeError, match=r"data\.progressive = 128: inception_v3 takes 299 pixels only"):
        prepare(wish(tiny, tmp_path, model="inception_v3", data={"progressive": "128=1ep"}))
