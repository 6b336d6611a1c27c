"""The folder of a run: what lies where. Nothing else knows the file names."""

import errno
import fcntl
import os
import platform
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halftone.base.errors import ModelFileError, RecipeError, ResourceError
from halftone.base.files import storage_error, write_json
from halftone.base.records import read_yaml, refuse_newer, write_yaml
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.version import __version__


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside of one run's folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """What was asked."""
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """What was decided, and why."""
        return self.path / "plan.yaml"

    @property
    def environment(self) -> Path:
        """Where it ran."""
        return self.path / "environment.json"

    @property
    def fingerprint(self) -> Path:
        """With which settings it began, and how exactly it went on after each stop; see `halftone.run.fingerprint`."""
        return self.path / "fingerprint.json"

    @property
    def results(self) -> Path:
        """A row per epoch."""
        return self.path / "results.csv"

    @property
    def steps(self) -> Path:
        """A row per optimizer step."""
        return self.path / "steps.csv"

    @property
    def warmup(self) -> Path:
        """A row per decision of an adaptive warmup; absent if there was none."""
        return self.path / "warmup.csv"

    @property
    def predictions(self) -> Path:
        """A row per validation image, for the best weights."""
        return self.path / "predictions.csv"

    @property
    def notices(self) -> Path:
        """A row for each thing that the run said beside its numbers."""
        return self.path / "notices.csv"

    @property
    def unreadable(self) -> Path:
        """A row per image that was left out; absent if there was none."""
        return self.path / "unreadable.csv"

    @property
    def test_report(self) -> Path:
        """The metrics on the part that was kept for the end; absent if there was none."""
        return self.path / "test_report.json"

    @property
    def train_report(self) -> Path:
        """The metrics of the best weights on training images, and the verdict; absent if they were not measured."""
        return self.path / "train_report.json"

    @property
    def classification_report(self) -> Path:
        """The metrics of the best weights, in full."""
        return self.path / "classification_report.json"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def checkpoints(self) -> Path:
        """States for resuming."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The page that shows it all."""
        return self.path / "report.html"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working in the folder for as long as the context lasts.

        The operating system lets go of it when the process ends, in whatever way.

        Raises:
            ResourceError: another process works in it, or it cannot be written.
        """
        place = self.path / ".lock"
        try:
            file = place.open("a+")
        except OSError as error:
            raise storage_error(self.path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise ResourceError(
                    f"another process works in {self.path}: {file.read().strip() or 'it does not say which'}",
                    hint="wait for it, or stop it",
                ) from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
            yield

    def write_plan(self, plan: Plan, environment: Mapping[str, Any]) -> None:
        """Write the wish, the decisions and the surroundings."""
        asked = plan.asked.model_dump(mode="json", exclude_unset=True)
        write_yaml(self.recipe, {"halftone": plan.halftone, **asked})
        write_yaml(self.plan, plan.to_mapping())
        write_json(self.environment, dict(environment))

    def read_plan(self) -> Plan:
        """Read the plan back.

        Raises:
            ModelFileError: there is none, or it was changed to something that is no plan.
            RecipeError: a newer major version wrote it.
        """
        if not self.plan.is_file():
            raise ModelFileError(f"{self.path} is not a run folder: it has no plan.yaml", hint="name a folder of a run")
        try:
            values = read_yaml(self.plan)
        except RecipeError as error:
            raise _no_plan(error, made_by=__version__) from error
        refuse_newer(values, str(self.plan))
        try:
            return Plan.parse(values, source=str(self.plan))
        except RecipeError as error:
            raise _no_plan(error, made_by=values.get("halftone")) from error


def _no_plan(error: RecipeError, *, made_by: object) -> ModelFileError:
    other = "" if made_by == __version__ else f" (made by halftone {made_by}; this is {__version__})"
    hint = "go on with the version that made it" if other else error.hint
    return ModelFileError(f"the plan cannot be read: {error}{other}", hint=hint)


def create_folder(recipe: Recipe, *, model: str) -> RunFolder:
    """Make a new folder for a run: the name that was asked for, or one with a number that is free.

    Raises:
        RecipeError: the name is taken.
        ResourceError: the folder cannot be made.
    """
    root = recipe.run.root.expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if recipe.run.name is not None:
            path = root / recipe.run.name
            check_free(recipe)
            path.mkdir(exist_ok=True)
        else:
            path = numbered(root, f"{plain_name(recipe.data.source)}-{plain_name(model)}")
        (path / "checkpoints").mkdir()
    except FileExistsError as error:
        raise _taken(recipe, path) from error
    except OSError as error:
        raise storage_error(root, error) from error
    return RunFolder(path.resolve())


def create_named(root: Path, name: str | None, *, stem: str) -> Path:
    """Make a new folder for what holds several runs: of a name, or of one that is made up from a stem and numbered.

    Raises:
        RecipeError: the name is taken.
        ResourceError: the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name is None:
            return numbered(root, stem).resolve()
        path = root / name
        if path.is_dir() and any(path.iterdir()):
            raise RecipeError(f"the folder {path} is taken", hint="choose another --name, or go on with it: --resume")
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(root, error) from error
    return path.resolve()


def check_free(recipe: Recipe) -> None:
    """Refuse a place that is taken or cannot be written, before anything else is done.

    Raises:
        RecipeError: a folder of that name holds something.
        ResourceError: there is a file in its place, or no permission to write.
    """
    root = recipe.run.root.expanduser()
    path = root / (recipe.run.name or "")
    try:
        if path.is_file() or root.is_file():
            raise ResourceError(f"{path} cannot be a run folder: a file is in its place", hint="choose another --name")
        existing = next(place for place in (root.absolute(), *root.absolute().parents) if place.is_dir())
        if not os.access(existing, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "Permission denied")
        if recipe.run.name is not None and path.is_dir() and any(path.iterdir()):
            raise _taken(recipe, path)
    except OSError as error:  # also of a folder that cannot be looked into
        raise storage_error(path, error) from error


def _taken(recipe: Recipe, path: Path) -> RecipeError:
    return RecipeError(
        f"run.name = {recipe.run.name}: the folder {path} is taken",
        hint=f"choose another --name, or go on with it: halftone train --resume {shlex.quote(str(path))}",
    )


def numbered(root: Path, stem: str) -> Path:
    """Make a folder that is not there yet: `stem-1`, `stem-2`, ...; `root` is there."""
    number = 1
    while True:
        path = root / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def plain_name(name: str) -> str:
    """Shorten a source or model to what is safe and readable in a folder's name."""
    stem = Path(name.partition(":")[0] if ".py:" in name else name.removeprefix("hf:").removeprefix("timm:")).stem
    return re.sub(r"[^A-Za-z0-9_.]+", "_", stem).strip("_.")[:60] or "data"
