"""From a request to a study that is open: its name, its folder, its storage, and what all its processes agree on."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from halftone.base.errors import RecipeError
from halftone.base.extras import require
from halftone.base.files import make_folder
from halftone.data.open import settled_source
from halftone.run.folder import check_free, plain_name
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.stopping import StopRequest
from halftone.tune.config import TuneConfig
from halftone.tune.search import Search, open_search
from halftone.tune.space import Space, parse_space
from halftone.tune.storage import holds

LOCKS = ".locks"
_STORAGE = "study.db"
_OF_THE_MACHINE = {"device", "threads", "keep_memory", "run"}
"""What processes that share a study may set differently; the decoding threads, too."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study under way in this process."""

    name: str
    folder: Path
    recipe: Recipe
    space: Space
    config: TuneConfig
    search: Search
    data: Any
    stop: StopRequest


def open_study(
    recipe: Recipe,
    space: Mapping[str, str],
    config: TuneConfig,
    *,
    name: str | None,
    storage: Path | None,
    data: Any,
    stop: StopRequest,
) -> Study:
    """Open a study, or begin it; see `tuning` for the arguments.

    Raises:
        HalftoneError: the request is wrong, or the study that is there is another one.
    """
    require("optuna", extra="tune")
    if recipe.run.name is not None:
        raise RecipeError(
            f"run.name = {recipe.run.name}: a study names its runs itself", hint="--study names the study"
        )
    if recipe.run.track:
        raise RecipeError(
            f"run.track = {','.join(recipe.run.track)}: the trials of a study go to its own folder only",
            hint="train the best one with it: halftone train --recipe STUDY/best.yaml --run.track ...",
        )
    parsed = parse_space(space, recipe)
    start = parsed.located(recipe)
    grid = [point for point in parsed.grid() if point != start] if config.sampler == "grid" else []
    if len(grid) >= config.trials:
        raise RecipeError(
            f"trials = {config.trials}: the grid has {len(grid)} points beside the defaults",
            hint=f"--trials {len(grid) + 1} tries all of them",
        )
    name, folder, file = _place(recipe, name, storage)
    if not holds(file, name):
        check_free(recipe)
        make_plan(recipe, data=data)  # what is wrong with the request is said before anything is written
    make_folder(folder)
    make_folder(file.parent)
    search = open_search(
        file,
        name,
        space=parsed,
        grid=grid,
        config=config,
        seed=recipe.seed,
        start=start,
        maximises=recipe.stop.metric != "loss",
        locks=folder / LOCKS,
        settings=_shared(recipe, parsed, config, os.path.relpath(folder, file.parent)),
    )
    return Study(name, folder, recipe, parsed, config, search, data, stop)


def _place(recipe: Recipe, study: str | None, storage: Path | None) -> tuple[str, Path, Path]:
    """Return the name of a study, its folder and its storage.

    Raises:
        RecipeError: the name cannot be that of a folder, or the folder holds something else.
    """
    root = recipe.run.root.expanduser().resolve()
    file = None if storage is None else storage.expanduser().resolve()
    if study is not None:
        name = study
    elif file is not None:
        name = file.stem
    else:
        stem = plain_name(recipe.data.source)
        name = next(found for found in (f"tune-{stem}-{number}" for number in count(1)) if not (root / found).exists())
    if not re.fullmatch(r"[^/\\\x00]{1,200}", name) or name in (".", ".."):
        raise RecipeError(
            f"study = {name}: it must be a name, not a path", hint="--run.root says where its folder goes"
        )
    folder = root / name
    file = folder / _STORAGE if file is None else file
    # in this order: whoever began it made the study before its first run
    taken = folder.is_dir() and any((folder / inner).exists() for inner in ("trial-000", "plan.yaml"))
    if taken and not holds(file, name):
        raise RecipeError(
            f"study = {name}: {folder} is taken, and {file} holds no study of that name",
            hint="choose another --study, or name the --storage that it began with",
        )
    return name, folder, file


def _shared(recipe: Recipe, space: Space, config: TuneConfig, folder: str) -> dict[str, Any]:
    """Return what must be the same in each process of a study, as JSON."""
    values = recipe.model_dump(mode="json", exclude_unset=True, exclude=_OF_THE_MACHINE)
    values["data"] = {**values.get("data", {}), "source": settled_source(recipe.data.source)}
    values["data"].pop("workers", None)
    return {
        "recipe": values,
        "space": space.texts(),
        "sampler": config.sampler,
        "judged": config.judged,
        "folder": folder,
    }
