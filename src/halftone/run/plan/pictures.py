"""The part of the plan that concerns the cache of decoded images."""

import shutil
import sys

from halftone.base.inputs import InputSpec
from halftone.base.records import decided
from halftone.data.cache.disk import LEAST_FREE
from halftone.data.cache.kept import kept_bytes, kept_side
from halftone.data.cache.place import identity, pictures_folder
from halftone.data.labelled import Labelled
from halftone.data.survey import Survey
from halftone.run.plan import decide
from halftone.run.plan.notebook import Notebook
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
