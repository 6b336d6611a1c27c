"""The weight files of a run: the tensors, and enough beside them to predict without anything else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from halftone.base.errors import ModelFileError, RecipeError
from halftone.base.inputs import InputSpec
from halftone.base.records import Record, decided
from halftone.data.config import Views
from halftone.metrics.report import Metrics
from halftone.models.build import build_model
from halftone.models.own import is_own
from halftone.precision.config import PrecisionConfig, evaluation_config
from halftone.precision.policy import apply_policy
from halftone.run.plan.record import Plan
from halftone.weights.files import load_sealed, save_sealed, stored_header
from halftone.weights.match import first_not_finite, fits, refuse_not_finite

KIND = "model"


class ModelCard(Record):
    """What stands beside the weights."""

    name: str
    """Of the network."""
    classes: tuple[str, ...] = Field(min_length=1)
    input: InputSpec
    precision: PrecisionConfig
    """Of evaluation and prediction, with the formats of single layers."""
    dropout: float | None = None
    channels_last: bool
    evaluation_batch: int = Field(ge=1)
    views: Views = 1
    """How often an image is looked at."""
    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    accuracy: float | None
    """On the validation images."""
    loss: float | None
    halftone: str
    """The version that wrote it."""

    @model_validator(mode="after")
    def _normalisable(self) -> "ModelCard":
        spec = self.input
        if not len(spec.mean) == len(spec.std) == spec.channels or not all(value > 0 for value in spec.std):
            raise ValueError("input: it must have a mean and a positive std for each channel")
        return self


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network ready to predict, in evaluation mode on the CPU."""

    module: nn.Module
    card: ModelCard

    def computing_in(self, asked: PrecisionConfig) -> "LoadedModel":
        """Let it compute in another precision than in the evaluations of its training.

        Layers that were given a format of their own keep it in another reduced mode; in fp32 all is fp32.

        Args:
            asked: its mode and layers count; with mode auto nothing changes.

        Raises:
            RecipeError: an entry of `layers` matches nothing.
        """
        if asked.mode == "auto":
            return self
        if not asked.layers and asked.mode not in ("fp32", "tf32"):
            asked = asked.replaced(layers=self.card.precision.layers)
        apply_policy(self.module, asked.layers)
        return LoadedModel(self.module, self.card.replaced(precision=evaluation_config(asked)))


def model_card(plan: Plan, *, epoch: int, step: int, metrics: Metrics) -> ModelCard:
    """Return what stands beside the weights of an epoch."""
    card = unjudged_card(plan)
    return card.replaced(epoch=epoch, step=step, accuracy=metrics.accuracy, loss=metrics.loss)


def unjudged_card(plan: Plan) -> ModelCard:
    """Return what stands beside weights of a run that were never evaluated."""
    settled = plan.settled
    return ModelCard(
        name=settled.model.name,
        classes=plan.data.classes,
        input=plan.input,
        precision=evaluation_config(settled.precision),
        dropout=settled.model.dropout,
        channels_last=decided(settled.model.channels_last),
        evaluation_batch=plan.evaluation_batch,
        views=settled.data.views,
        epoch=0,
        step=0,
        accuracy=None,
        loss=None,
        halftone=plan.halftone,
    )


def save_model(path: Path, tensors: dict[str, Tensor], card: ModelCard) -> None:
    """Write the weights of an epoch.

    Raises:
        Diverged: a weight is not finite; nothing is written.
        ResourceError: the disk is full.
    """
    refuse_not_finite(tensors, step=card.step)
    save_sealed(path, tensors, {"kind": KIND, "card": card.model_dump(mode="json")})


def stored_card(path: Path) -> ModelCard | None:
    """Return what stands beside the weights of a file that a run left, or None for a file of any other origin."""
    return card_of(path, stored_header(path))


def card_of(path: Path, header: dict[str, Any]) -> ModelCard | None:
    """Return the card in the header of a file that was read, or None if it is not one of a run's weights."""
    return _read_card(path, header.get("card")) if header.get("kind") == KIND else None


def load_model(path: Path, model: nn.Module | str | None = None, *, trusted: bool = False) -> LoadedModel:
    """Read a weight file of a run and rebuild its network.

    Args:
        path: the file.
        model: the network itself, if it was passed in Python when it was trained; or the place of the user's own
            class, `file.py:Class`, which takes the place of the one that the file names.
        trusted: whether a class that the file names may be run. A weight file from a stranger could name any file
            of this machine; a run's own folder is trusted like a script.

    Raises:
        ModelFileError: missing, damaged, no model, of another network, or of a class that nobody vouches for.
    """
    stored = load_sealed(path)
    if stored.header.get("kind") != KIND:
        raise ModelFileError(
            f"{path} is a {stored.header.get('kind', 'file')}, not a model", hint="name best.safetensors"
        )
    card = _read_card(path, stored.header.get("card"))
    num_classes = len(card.classes)
    if not any(num_classes in tensor.shape for tensor in stored.tensors.values()):  # or a lie would cost memory
        raise ModelFileError(f"{path} names {num_classes} classes, but no tensor in it has a row for each")
    if is_own(card.name) and model is None and not trusted:
        raise ModelFileError(
            f"{path} names the class {card.name}, which would be run; a single weight file is not trusted that far",
            hint="name the class yourself if you trust it: --model FILE.py:Class",
        )
    module = network_of(card, model)
    put_weights(module, stored.tensors, origin=str(path), network=card.name)
    return LoadedModel(module, card)


def network_of(card: ModelCard, model: nn.Module | str | None = None) -> nn.Module:
    """Build the network that a card describes, in evaluation mode on the CPU, its weights still fresh.

    Args:
        card: from a file that is trusted, since it may name a class to be run.
        model: the network itself, or the place of the user's own class.
    """
    if isinstance(model, nn.Module):
        module = model
    else:
        module = build_model(
            model or card.name,
            num_classes=len(card.classes),
            channels=card.input.channels,
            size=card.input.size,
            dropout=card.dropout,
        ).module
    apply_policy(module, card.precision.layers)
    layout = torch.channels_last if card.channels_last else torch.contiguous_format
    return module.to(memory_format=layout).eval()


def put_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, origin: str, network: str) -> None:
    """Copy all tensors into a network, or none.

    Raises:
        ModelFileError: they are not exactly those of the network, or not finite.
    """
    own = module.state_dict()
    wrong = [key for key in own if key not in tensors or not fits(tensors[key], own[key])]
    wrong += [key for key in tensors if key not in own]
    if wrong:
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ModelFileError(
            f"{origin} does not fit the network {network}: {wrong[0]}{others} differ in shape or are missing",
            hint="a network passed in Python, or in a file of yours, must be the one that was trained",
        )
    broken = first_not_finite(tensors)
    if broken is not None:
        raise ModelFileError(f"{origin} holds weights that are not finite: {broken}", hint="use an earlier file")
    module.load_state_dict(dict(tensors))


def _read_card(path: Path, values: Any) -> ModelCard:
    if not isinstance(values, dict):
        raise ModelFileError(f"{path} does not say what its weights are")
    try:
        return ModelCard.parse(values)
    except RecipeError as error:
        raise ModelFileError(f"{path} does not say rightly what its weights are: {error}") from error
