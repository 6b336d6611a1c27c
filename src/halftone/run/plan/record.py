"""The plan: what was decided, and why. Nothing in it is open any more."""

from typing import Any

from halftone.base.inputs import InputSpec
from halftone.base.records import Record
from halftone.data.progressive import EarlySize
from halftone.precision.probe import Measured
from halftone.run.recipe import Recipe
from halftone.weights.freeze import Halt, Thaw


class Choice(Record):
    """One decision that nobody asked for."""

    setting: str
    value: str
    reason: str


class DataFacts(Record):
    """What was found in the data."""

    classes: tuple[str, ...]
    num_train: int
    num_validation: int
    num_test: int = 0
    """Images that are kept for one last evaluation."""
    validation: str
    """Where the validation images come from, as a sentence."""
    fingerprint: str
    """Of the images and labels; resuming compares it."""
    notes: tuple[str, ...] = ()
    """What was ignored or noticed."""
    num_unreadable: int = 0
    """Training images that were left out because they cannot be read; `unreadable.csv` names them."""


class ModelFacts(Record):
    """What the network is made of."""

    num_parameters: int
    has_norms: bool
    depthwise_share: float
    """Of the convolutions, the share that is depthwise."""
    is_transformer: bool
    widest: int = 0
    """The most inputs or outputs of a layer; the inputs of a filter are its channels times its pixels."""


class MeasuredRates(Record):
    """What was measured of the rates at which the network trains, on a copy of it; as peak rates of the optimizer."""

    critical: float | None = None
    """The largest rate whose first update does not raise the loss of its batch; see `halftone.loop.critical`."""
    steepest: float | None = None
    """The rate at which the loss fell fastest in a range test; see `halftone.schedule.range_curve`."""
    edge: float | None = None
    """The rate from which on it rose."""
    suggestion: float | None = None
    """The peak rate that the range test suggests."""
    highest: float | None = None
    """The largest rate that was tried in the range test."""
    num_steps: int = 0
    """Of the range test; 0 if there was none."""


class Plan(Record):
    """A run that could begin now."""

    halftone: str
    """The version that made the plan."""
    asked: Recipe
    settled: Recipe
    """The recipe without any `auto`."""
    device: str
    """As its maker calls it."""
    data: DataFacts
    model: ModelFacts
    input: InputSpec
    keep_validation: bool
    """Whether the validation images are decoded once and kept."""
    evaluation_batch: int
    """Images per forward pass in evaluation."""
    batches_per_epoch: int
    total_steps: int
    """Optimizer steps in the run."""
    warmup_steps: int
    thaws: tuple[Thaw, ...] = ()
    """Frozen layers that begin to train in the course of the run."""
    halts: tuple[Halt, ...] = ()
    """Layers that stop training in the course of the run."""
    early_sizes: tuple[EarlySize, ...] = ()
    """Of the training pictures, while they are smaller than the input."""
    weights: str = "fresh"
    """Where the starting weights come from, and what was loaded."""
    choices: tuple[Choice, ...]
    evidence: tuple[Measured, ...] = ()
    """What was measured to choose the precision."""
    rates: MeasuredRates | None = None
    """What was measured of the learning rates."""
    warnings: tuple[str, ...] = ()
    """What looks wrong about the course of the rate."""

    def with_choice(self, setting: str, value: object, reason: str) -> "Plan":
        """Put a choice in the place of an earlier one of the same setting, or at the end."""
        new = Choice(setting=setting, value=str(value), reason=reason)
        names = [choice.setting for choice in self.choices]
        kept = tuple(new if choice.setting == setting else choice for choice in self.choices)
        return self.replaced(choices=kept if setting in names else (*self.choices, new))

    def to_mapping(self) -> dict[str, Any]:
        """Return the plan for `plan.yaml`: the decisions first, the full recipe last."""
        values = self.model_dump(mode="json")
        values["asked"] = self.asked.model_dump(mode="json", exclude_unset=True)
        order = ["halftone", "device", "choices", "asked", "data", "model", "weights", "input"]
        last = {"settled": values.pop("settled")}
        return {name: values.pop(name) for name in order} | values | last
