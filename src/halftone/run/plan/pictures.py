"""The part of the plan that concerns pictures: the cache of decoded ones, and their sizes in the course of the run."""

import shutil
import sys
from functools import partial

from halftone.base.errors import RecipeError
from halftone.base.inputs import InputSpec
from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.data.cache.disk import LEAST_FREE
from halftone.data.cache.kept import kept_bytes, kept_side
from halftone.data.cache.place import identity, pictures_folder
from halftone.data.labelled import Labelled
from halftone.data.progressive import EarlySize, plan_sizes
from halftone.data.survey import Survey
from halftone.models.trial import try_out
from halftone.run.plan import decide
from halftone.run.plan.network import Network
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import DataFacts
from halftone.run.recipe import Recipe

_USUAL_SHAPE = (3, 4)
"""Height and width of a photo, where the pictures of a set differ."""


def settle_cache(
    recipe: Recipe, train: Labelled, seen: Survey, spec: InputSpec, notes: Notebook, *, free_memory: int
) -> Recipe:
    """Settle whether and where decoded images are kept, once the length of the run and its crops are known."""
    config = recipe.data
    if config.cache == "auto":
        num_train = max(1, len(train.labels))
        steps = recipe.max_steps or sys.maxsize
        choice = decide.cache(
            feed=decided(config.feed),
            passes=min(decided(recipe.epochs), steps * decided(recipe.batch_size) / num_train),
            identified=config.feed == "streaming" and identity(train) is not None,
            num_bytes=expected_bytes(recipe, num_train, seen, spec),
            free_disk=_free_disk(),
            free_memory=free_memory,
        )
        config = config.replaced(cache=choice.value)
        if config.feed == "streaming":
            notes.note("data.cache", choice.value, choice.reason)
    return recipe.replaced(data=config)


def settle_sizes(
    recipe: Recipe, network: Network, data: DataFacts, notes: Notebook, *, steps_per_epoch: int, total_steps: int
) -> tuple[EarlySize, ...]:
    """Settle how large the training pictures are until when, and see that the network takes them.

    Raises:
        RecipeError: they would not grow, or the network fails on one of the sizes.
    """
    spec = network.spec
    steps = partial(Span.steps, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    planned = plan_sizes(recipe.data.progressive, full=spec.size, steps=steps)
    if planned and network.fixed:
        raise RecipeError(
            f"data.progressive = {planned[0].size}: {network.name} takes {spec.size} pixels only",
            hint="leave it out, or another network",
        )
    for early in planned:
        try_out(
            network.built.module,
            name=network.name,
            num_classes=len(data.classes),
            channels=spec.channels,
            size=early.size,
            asked="--data.progressive",
        )
    if planned:
        stages = ", ".join(f"{early.size} pixels to step {min(early.until, total_steps)}" for early in planned)
        ends = [0, *(min(early.until, total_steps) for early in planned)]
        seen = sum((end - start) * early.size**2 for start, end, early in zip(ends, ends[1:], planned, strict=False))
        share = (seen / spec.size**2 + total_steps - ends[-1]) / total_steps
        notes.note("data.progressive", stages, f"then {spec.size}; {share:.0%} of the pixels of a run without it")
    return planned


def expected_bytes(recipe: Recipe, num_images: int, seen: Survey, spec: InputSpec) -> int:
    """Return about how much the images take when they are kept."""
    short = max(1, seen.median_side)
    height, width = seen.uniform or (short, short * _USUAL_SHAPE[1] // _USUAL_SHAPE[0])
    return kept_bytes(num_images, height, width, spec=spec, side=kept_side(spec.size, crop_area(recipe)))


def crop_area(recipe: Recipe) -> tuple[float, float] | None:
    """Return the range of the random crops' share of the area, or None if there are none."""
    area = decided(recipe.augment.resized_crop)
    return area if isinstance(area, tuple) else None


def _free_disk() -> int:
    """Return the bytes that caches may take where they would lie."""
    folder = pictures_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return max(0, shutil.disk_usage(folder).free - LEAST_FREE)
    except OSError:
        return 0
