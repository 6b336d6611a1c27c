"""The recipe: everything that can be asked of a run, as one tree of records.

The same tree is the Python API (`Recipe(data="digits", epochs=10)`), the YAML file (`--recipe run.yaml`) and the
flags (`--epochs 10 --warmup.shape cosine`). Each setting is written once, beside the code that it steers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from halftone.base.records import Auto, Record, decided, nested_record, read_yaml, refuse_newer
from halftone.data.config import AugmentConfig, DataConfig
from halftone.models.config import ModelConfig
from halftone.optim.config import LossConfig, OptimizerConfig
from halftone.precision.config import PrecisionConfig
from halftone.run.config import RunConfig, StopConfig
from halftone.schedule.config import DecayConfig, WarmupConfig
from halftone.weights.config import AverageConfig, InitConfig, WeightsConfig

SHORT_NAMES: Mapping[str, str] = {
    "size": "data.size",
    "workers": "data.workers",
    "pretrained": "weights.pretrained",
    "freeze": "weights.freeze",
    "unfreeze": "weights.unfreeze",
    "lr": "optimizer.lr",
    "lr_scaling": "optimizer.lr_scaling",
    "layer_decay": "optimizer.layer_decay",
    "l1": "optimizer.l1",
    "l2": "optimizer.l2",
    "clip": "optimizer.clip",
    "label_smoothing": "loss.label_smoothing",
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "dropout": "model.dropout",
    "patience": "stop.patience",
    "name": "run.name",
    "track": "run.track",
}
"""Settings that people type every day, by their short name, in Python, YAML and flags alike."""


SYNONYMS: Mapping[str, str] = {
    "learning_rate": "lr",
    "lr0": "lr",
    "weight_decay": "l2",
    "wd": "l2",
    "opt": "optimizer",
    "arch": "model",
    "network": "model",
    "backbone": "model",
    "dataset": "data",
    "amp": "precision",
    "mixed_precision": "precision",
    "dtype": "precision",
    "imgsz": "size",
    "img_size": "size",
    "image_size": "size",
    "num_epochs": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "ema": "average",
    "scheduler": "decay",
    "sched": "decay",
    "warmup_epochs": "warmup",
    "warmup_steps": "warmup",
    "smoothing": "label_smoothing",
    "grad_clip": "clip",
    "num_workers": "workers",
    "early_stopping": "patience",
    "project": "run.root",
    "output_dir": "run.root",
}
"""What other tools call our settings; for hints only."""


class Recipe(Record):
    """A wish: what to train on what, and how. What is left at `auto` is decided by the plan, with a reason."""

    synonyms = SYNONYMS

    data: DataConfig = DataConfig()
    """Which images. Short for `data.source`."""
    model: ModelConfig = ModelConfig()
    """Which network. Short for `model.name`."""
    weights: WeightsConfig = WeightsConfig()
    """Which weights it starts from. Short for `weights.file`."""
    init: InitConfig = InitConfig()
    """How fresh weights begin. Short for `init.scheme`."""
    precision: PrecisionConfig = PrecisionConfig()
    """Which number format. Short for `precision.mode`."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Which optimizer. Short for `optimizer.name`."""
    warmup: WarmupConfig = WarmupConfig()
    """How the rate rises. Short for `warmup.length`."""
    decay: DecayConfig = DecayConfig()
    """How the rate falls. Short for `decay.shape`."""
    augment: AugmentConfig = AugmentConfig()
    """How training images are changed. Short for `augment.policy`."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    average: AverageConfig = AverageConfig()
    """Averaging of the weights (EMA). Short for `average.decay`."""
    stop: StopConfig = StopConfig()
    """When to stop. Short for `stop.patience`."""
    run: RunConfig = RunConfig()
    """Where the run is kept. Short for `run.name`."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Passes over the training images."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps, even within an epoch."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | Auto = "auto"
    """Images per optimizer step."""
    accumulate: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    """Parts in which a batch passes through the network, to save memory. auto is as many as it takes to fit."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides the starting weights, the order of the images and their random changes."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, ..."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    """Threads for computing on the CPU."""
    keep_memory: bool = True
    """On the CPU: keep freed memory between steps, which is faster and takes more of it."""
    deterministic: bool = False
    """Let torch use deterministic algorithms only (on the CPU, runs repeat exactly without it)."""
    force: bool = False
    """Do what halftone would refuse because it is known to be a bad idea."""

    if TYPE_CHECKING:  # the short forms above are understood at run time

        def __init__(self, **settings: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _short_names(cls, values: Any) -> Any:
        return expand(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        asked = "auto" not in (self.batch_size, self.accumulate)
        if asked and decided(self.accumulate) > decided(self.batch_size):
            raise ValueError(
                f"accumulate = {self.accumulate} is more than batch_size = {self.batch_size}: a part would be empty"
            )
        return self


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bring settings to their full form: short names to their place in the tree, bare values to a mapping."""
    expanded: dict[str, Any] = {}
    for name, value in values.items():
        if name not in SHORT_NAMES:
            expanded[name] = _full(name, value)
    for name, value in values.items():
        if name in SHORT_NAMES:
            room, _, setting = SHORT_NAMES[name].partition(".")
            expanded[room] = {**expanded.get(room, {}), setting: value}
    return expanded


def _full(name: str, value: Any) -> Any:
    """Return the mapping that a room's value stands for, such as `{"source": "digits"}` for `data: digits`."""
    room = nested_record(Recipe.model_fields[name].annotation) if name in Recipe.model_fields else None
    if room is None or isinstance(value, Mapping):
        return value
    if isinstance(value, Record):
        return value.model_dump(exclude_unset=True)
    assert issubclass(room, Record)
    return {room.shorthand: value} if room.shorthand else value


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay changes over values, setting by setting; both may use short forms."""
    merged = expand(values)
    for name, change in expand(changes).items():
        current = merged.get(name)
        both = isinstance(change, Mapping) and isinstance(current, Mapping)
        merged[name] = {**current, **change} if both else change  # type: ignore[dict-item]
    return merged


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML, with changes on top.

    Raises:
        RecipeError: the file or a setting in it is wrong.
    """
    values = recipe_file(path)
    Recipe.parse(values, source=str(path))  # so that a fault of the file is blamed on the file
    return Recipe.parse(merge(values, changes or {}))


def recipe_file(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file of a recipe, without the version that wrote it, if it says one.

    Raises:
        RecipeError: the file is wrong, or a newer major version wrote it.
    """
    values = read_yaml(path)
    refuse_newer(values, str(path))
    return {name: value for name, value in values.items() if name != "halftone"}
