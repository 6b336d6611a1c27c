"""Evaluating a weight file without the run that it comes from: one of a run by its card, or somebody else's."""

from pathlib import Path
from typing import Any

import torch

from halftone.base.errors import ModelFileError, RecipeError
from halftone.data.config import DataConfig
from halftone.data.open import open_source
from halftone.data.streaming import StreamingFeed
from halftone.loop.evaluate import conclude, evaluate
from halftone.models.own import is_own
from halftone.precision.config import PrecisionConfig
from halftone.run.inference import Evaluated, known_images, one_part
from halftone.run.inference_mode import asked_mode, slow_notes
from halftone.run.model_file import load_model, stored_card, unjudged_card
from halftone.run.plan.data import check_limit
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import evaluation_set, set_of_card
from halftone.run.start import load_start
from halftone.system.device import choose_device
from halftone.system.memory import out_of_memory_named
from halftone.system.threads import usable_cores


def evaluate_file(
    path: Path,
    data: DataConfig,
    *,
    given: Any = None,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Evaluated:
    """Evaluate a weight file on data: its validation part, or the test part, or all there is.

    A file of a run says itself what its network, its classes and its pictures are. For any other file the network
    is named, its classes are those of the data in their order, and pictures become what the plan would make of them
    for that network: say the size and the normalisation of its training where they are not those of the library.

    Args:
        path: the file.
        data: which images, and for a file of other origin what they become.
        given: the data itself, if it was passed in Python.
        model: the network, by name or as `file.py:Class`.
        device: where to compute.
        precision: the mode to compute in; auto is that of the training's evaluations, or fp32 where a file does not
            say it.

    Raises:
        RecipeError: the network is not named; there is no such mode, or the device cannot compute in it.
        ModelFileError: the file is damaged, or does not fit the network and the classes.
        DataError: the data has a class that the model does not know, or too many images cannot be read.
    """
    place = choose_device(device)
    if place.type == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    asked = asked_mode(precision, place)
    if stored_card(path) is not None:
        if model is not None and not is_own(model):
            raise RecipeError(f"model = {model}: {path} says itself which network it is of", hint="leave --model out")
        return _by_card(path, data, given, model, place, asked)
    if model is None:
        raise RecipeError(
            f"{path} does not say which network its weights are of", hint="name it: --model resnet18, or FILE.py:Class"
        )
    return _by_name(path, data, given, model, place, asked)


def _by_card(
    path: Path, data: DataConfig, given: Any, model: str | None, place: torch.device, precision: PrecisionConfig
) -> Evaluated:
    loaded = load_model(path, model).computing_in(precision)
    part, images = one_part(open_source(data, given, least_classes=1))
    images = known_images(images, loaded.card.classes, data.source)
    with out_of_memory_named("a smaller set, or --device cpu"):
        feed = StreamingFeed(images, loaded.card.input, place, workers=usable_cores(), timeout=data.timeout)
        card = loaded.card.replaced(views=data.views) if "views" in data.model_fields_set else loaded.card
        prepared = set_of_card(card, feed, len(images.labels), place)
        evaluation = conclude(evaluate(loaded.module.to(place), prepared))
    check_limit(evaluation.faults, len(images.labels), data)
    return Evaluated(evaluation, images, part, slow_notes(card, place))


def _by_name(
    path: Path, data: DataConfig, given: Any, model: str, place: torch.device, precision: PrecisionConfig
) -> Evaluated:
    """Plan as for a training from this file, and evaluate in its place."""
    recipe = Recipe(
        data=data,
        model={"name": model, "channels_last": False},  # as plain PyTorch would compute it
        weights={"file": path},
        precision="fp32" if precision.mode == "auto" else precision,
        device=str(place),
    )
    prepared = make_plan(recipe, data=given)
    account = load_start(prepared)
    assert account is not None
    if account.fresh:
        raise ModelFileError(
            f"{path} has no head for the {len(prepared.plan.data.classes)} classes of the data: {account}",
            hint="evaluate it on data with the classes of its training, or train from it: --weights FILE",
        )
    part, images = one_part(open_source(data, given, least_classes=1))
    with out_of_memory_named("a smaller set, or --device cpu"):
        prepared_set = evaluation_set(prepared.plan, images, place, keep=False)
        evaluation = conclude(evaluate(prepared.built.module.to(place).eval(), prepared_set))
    check_limit(evaluation.faults, len(images.labels), data)
    note = next(choice for choice in prepared.plan.choices if choice.setting == "normalisation")
    notes = (f"weights: {account}", f"normalisation: {note.value} ({note.reason})")
    return Evaluated(evaluation, images, part, (*notes, *slow_notes(unjudged_card(prepared.plan), place)))
