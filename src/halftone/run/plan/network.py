"""The part of the plan that concerns the network: which one, and what a picture becomes on its way into it."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from halftone.base.errors import RecipeError
from halftone.base.inputs import InputSpec
from halftone.base.records import Auto, decided
from halftone.base.seeds import stream_seed
from halftone.models.build import build_model, native_input, take_module
from halftone.models.built import Built, Native
from halftone.models.own import is_own, settled_own
from halftone.models.trial import try_out
from halftone.precision.policy import kind_of
from halftone.run.courses import stand_still
from halftone.run.model_file import stored_card
from halftone.run.plan import decide
from halftone.run.plan.data import OpenedData, measure
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.record import ModelFacts
from halftone.run.recipe import Recipe

GIVEN = "given"
"""The name of a network that was passed in Python."""


@dataclass(frozen=True, slots=True)
class Network:
    """The network and its input."""

    name: str
    built: Built
    facts: ModelFacts
    spec: InputSpec
    fixed: bool = False
    """Whether it takes pictures of no other size."""


def choose_network(recipe: Recipe, opened: OpenedData, given: nn.Module | None, notes: Notebook) -> Network:
    """Choose and build the network, and say what it expects of a picture."""
    pretrained = recipe.weights.pretrained
    choice = decide.model_name(opened.survey, pretrained=pretrained)
    name = GIVEN if given is not None else notes.settle("model.name", recipe.model.name, choice)
    name = settled_own(name) if is_own(name) else name
    native = None if given is not None else native_input(name)
    if native is None and pretrained:
        raise RecipeError(f"pretrained: there are no published weights of '{name}'", hint="name a file: --weights FILE")
    spec = _choose_input(recipe, opened, name, native, notes)
    size, channels = spec.size, spec.channels
    classes = len(opened.facts.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(recipe.seed, "weights"))
        if given is not None:
            try_out(given, name=GIVEN, num_classes=classes, channels=channels, size=size)
            built = take_module(given, num_classes=classes, dropout=recipe.model.dropout)
        else:
            dropout = recipe.model.dropout
            built = build_model(name, num_classes=classes, channels=channels, size=size, dropout=dropout)
    return Network(name, built, describe(name, built), spec, fixed=native is not None and native.fixed)


def _choose_input(recipe: Recipe, opened: OpenedData, name: str, native: Native | None, notes: Notebook) -> InputSpec:
    """Choose what a picture becomes on its way into the network: what its weights know, or what the pictures are."""
    seen, config, file = opened.survey, recipe.data, recipe.weights.file
    card = None if file is None else stored_card(file.expanduser())
    has_weights = recipe.weights.pretrained or file is not None
    known = card.input if card is not None and card.name == name else None
    if known is not None:
        side = decide.Decision(known.size, "the size that the weights were trained on")
        colours = decide.Decision(known.channels, "what the weights were trained on")
    else:
        side = decide.input_size(seen, native, has_weights=has_weights)
        colours = decide.channels(seen, has_weights=has_weights)
    size = notes.settle("data.size", config.size, side)
    channels = notes.settle("data.channels", config.channels, colours)
    origin = known or native  # what knows how a picture is brought to size
    # the middle of a photo is what it shows; of a small picture nothing may be lost
    small = not has_weights and seen.median_side <= decide.SMALL_SIDE
    whole = known is None and (seen.uniform == (size, size) or small)
    spec = InputSpec(
        size=size,
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        interpolation="bilinear" if origin is None else origin.interpolation,
        fit=config.fit,
        crop=1.0 if whole or origin is None else origin.crop,
    )
    if "auto" not in (config.mean, config.std):
        mean, std, reason = spec.mean, spec.std, "asked"
    elif known is not None and known.channels == channels:
        mean, std, reason = known.mean, known.std, "what the weights were trained with"
    elif has_weights and native is not None and native.mean is not None and native.std is not None and channels == 3:
        mean, std, reason = native.mean, native.std, "what the weights were trained with"
    else:
        mean, std, count = measure(opened.train, spec, timeout=config.timeout)
        reason = f"measured on {count} training images"
    if (config.mean == "auto") != (config.std == "auto"):
        reason = f"one of both asked, the other {reason}"
    mean, std = _asked(config.mean, mean, "mean"), _asked(config.std, std, "std")
    notes.note("normalisation", f"mean {_shown(mean)}, deviation {_shown(std)}", reason)
    return spec.replaced(mean=mean, std=std)


def _asked(asked: tuple[float, ...] | Auto, found: tuple[float, ...], name: str) -> tuple[float, ...]:
    """Return what was asked for each channel, or what was found in its place."""
    if asked == "auto":
        return found
    if len(asked) not in (1, len(found)):
        raise RecipeError(
            f"data.{name} has {len(asked)} numbers, and the pictures have one channel",
            hint="give one number, or --data.channels 3",
        )
    return asked * len(found) if len(asked) == 1 else asked


def _shown(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def describe(name: str, built: Built) -> ModelFacts:
    """Say what a network is made of."""
    layers = list(built.module.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    depthwise = [layer for layer in convolutions if kind_of(layer) == "depthwise"]
    kinds = {type(layer).__name__ for layer in layers}
    return ModelFacts(
        num_parameters=sum(parameter.numel() for parameter in built.module.parameters()),
        has_norms=any("norm" in kind.lower() and kind != "LocalResponseNorm" for kind in kinds),
        depthwise_share=len(depthwise) / len(convolutions) if convolutions else 0.0,
        is_transformer=decide.is_transformer(name, kinds),
        widest=max(
            (side for one in built.module.parameters() if one.ndim > 1 for side in one.flatten(1).shape), default=0
        ),
    )


def training_copy(network: Network, recipe: Recipe, device: torch.device) -> tuple[nn.Module, torch.memory_format]:
    """Copy a network as it will train: on the device, partly frozen, in a memory layout, which is returned with it."""
    model = copy.deepcopy(network.built.module)
    stand_still(network.built, recipe.weights, module=model)
    layout = torch.channels_last if decided(recipe.model.channels_last) else torch.contiguous_format
    return model.to(device).to(memory_format=layout).train(), layout
