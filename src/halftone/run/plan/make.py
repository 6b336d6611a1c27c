"""From a recipe to a plan: one ordered passage through all decisions."""

import sys
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from halftone.base.errors import RecipeError
from halftone.base.laps import Laps
from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.data.labelled import Labelled, in_memory
from halftone.data.open import settled_source
from halftone.data.survey import Fault, Survey
from halftone.models.built import Built
from halftone.models.small import is_small
from halftone.precision.config import PrecisionConfig
from halftone.run.plan import decide
from halftone.run.plan.data import OpenedData, open_data
from halftone.run.plan.decide import Decision
from halftone.run.plan.network import Network, choose_network
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.pictures import settle_cache, settle_sizes
from halftone.run.plan.precision import ChosenPrecision, choose_precision
from halftone.run.plan.record import Plan
from halftone.run.plan.room import choose_parts
from halftone.run.plan.schedule import scaled_rate, settle_schedule
from halftone.run.recipe import Recipe
from halftone.schedule.build import build_schedule
from halftone.system.device import DeviceFacts, choose_device, device_facts
from halftone.system.memory import available_bytes
from halftone.system.threads import usable_cores
from halftone.version import __version__
from halftone.weights.freeze import BACKBONE


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, with the things that were opened and built to make it."""

    plan: Plan
    train: Labelled
    validation: Labelled
    test: Labelled | None
    built: Built
    device: torch.device
    survey: Survey
    """Of the training images."""
    unreadable: tuple[Fault, ...] = ()
    """Training images that were left out."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the stages of preparing: data, network, precision, weights, rates, compiling where that is auto."""

    def with_plan(self, plan: Plan) -> "Prepared":
        """Return the same things under another plan, that of a run being resumed."""
        return replace(self, plan=plan)


def make_plan(recipe: Recipe, *, data: Any = None, model: nn.Module | None = None) -> Prepared:
    """Open the data, build the network, and settle all that was left open.

    Args:
        recipe: the wish.
        data: data passed in Python, for the source `given`.
        model: a network passed in Python, used instead of the recipe's.

    Raises:
        HalftoneError: the wish cannot be fulfilled; see its kinds.
    """
    asked, notes, laps = recipe, Notebook(), Laps()
    device = choose_device(recipe.device)
    facts = device_facts(device)
    if recipe.device == "auto":
        notes.note("device", device, facts.name if device.type != "cpu" else f"{facts.name}; no GPU was found")
    cores = usable_cores()
    threads = notes.settle("threads", recipe.threads, decide.Decision(cores, "the cores that this process may use"))
    opened = open_data(recipe.data, data, notes, workers=threads)
    laps.lap("data")
    network = choose_network(recipe, opened, model, notes)
    recipe = _settle_data(recipe, opened, network, facts, device, threads, notes)
    recipe = _settle_training(recipe, opened, network, facts, notes)
    free = available_bytes(torch.device("cpu"))
    recipe = settle_cache(recipe, opened.train, opened.survey, network.spec, notes, free_memory=free)
    recipe = recipe.replaced(threads=threads, device=str(device))
    laps.lap("network")
    recipe, precision = _settle_precision(recipe, network, opened, facts, device, notes)
    laps.lap("precision")

    batch = decided(recipe.batch_size)
    batches = opened.facts.num_train // batch
    total = batches * decided(recipe.epochs)
    total = total if recipe.max_steps is None else min(total, recipe.max_steps)
    _check_warmup(recipe, batches, total)
    schedule = build_schedule(recipe.warmup, recipe.decay, steps_per_epoch=batches, total_steps=total)
    small = network.spec.size <= decide.SMALL_SIDE
    evaluation = min(opened.facts.num_validation, 1024 if small else max(64, batch // decided(recipe.accumulate)))
    kept = opened.facts.num_validation * network.spec.size**2 * network.spec.channels
    plan = Plan(
        halftone=__version__,
        asked=asked,
        settled=recipe,
        device=facts.name,
        data=opened.facts,
        model=network.facts,
        input=network.spec,
        keep_validation=recipe.data.feed == "resident" or kept < available_bytes(device) // 8,
        evaluation_batch=evaluation,
        batches_per_epoch=batches,
        total_steps=total,
        warmup_steps=schedule.warmup_steps,
        early_sizes=settle_sizes(recipe, network, opened.facts, notes, steps_per_epoch=batches, total_steps=total),
        choices=tuple(notes.choices),
        evidence=precision.evidence,
    )
    parts = (opened.train, opened.validation, opened.test)
    return Prepared(plan, *parts, network.built, device, opened.survey, opened.unreadable, laps.seconds)


def _settle_data(
    recipe: Recipe,
    opened: OpenedData,
    network: Network,
    facts: DeviceFacts,
    device: torch.device,
    threads: int,
    notes: Notebook,
) -> Recipe:
    """Settle how images reach the network and how they are changed on the way."""
    config, spec, seen = recipe.data, network.spec, opened.survey
    num_bytes = opened.facts.num_train * spec.size**2 * spec.channels
    feed = notes.settle(
        "data.feed",
        config.feed,
        decide.feed(
            seen,
            in_memory=in_memory(opened.train),
            size=spec.size,
            num_bytes=num_bytes,
            free_bytes=available_bytes(device),
        ),
    )
    if config.views > 1:
        notes.note("data.views", config.views, decide.views(config.views))
    workers = config.workers
    if workers == "auto":
        workers = min(16, threads if facts.kind == "cpu" else max(1, threads - 1))
        if feed == "streaming":
            notes.note(
                "data.workers", workers, "one decoding thread per core" + ("" if facts.kind == "cpu" else " but one")
            )
    augment, reason = decide.augmentation(
        recipe.augment,
        size=spec.size,
        small=spec.size <= decide.SMALL_SIDE and seen.median_side <= decide.SMALL_SIDE,
        source=config.source.lower(),
        gray=spec.channels == 1,
    )
    notes.note("augment", recipe.augment.policy, reason)
    return recipe.replaced(
        data=config.replaced(
            source=settled_source(config.source),  # wherever the run is read from later
            root=None if config.root is None else config.root.expanduser().resolve(),
            size=spec.size,
            channels=spec.channels,
            mean=spec.mean,
            std=spec.std,
            feed=feed,
            workers=workers,
        ),
        augment=augment,
    )


def _settle_training(
    recipe: Recipe, opened: OpenedData, network: Network, facts: DeviceFacts, notes: Notebook
) -> Recipe:
    """Settle batch, epochs, optimizer, schedule and memory layout."""
    num_train, size, model = opened.facts.num_train, network.spec.size, network.facts
    trained = recipe.weights.pretrained or recipe.weights.file is not None
    batch = notes.settle("batch_size", recipe.batch_size, decide.batch_size(num_train, size=size, device=facts.kind))
    if batch > num_train:
        notes.note("batch_size", num_train, f"{batch} was asked, but there are only {num_train} training images")
        batch = num_train
    _check_batch(recipe, batch, network)
    _note_left_over(num_train, batch, notes)
    passes = decide.epochs(num_train, size=size, has_weights=trained)
    epochs = notes.settle("epochs", recipe.epochs, passes)
    asked = recipe.optimizer
    choice = decide.optimizer_name(
        model, small=is_small(network.name), has_weights=trained, pixels=batch * network.spec.size**2
    )
    name = notes.settle("optimizer.name", asked.name, choice)
    num_steps = min(max(num_train // batch, 1) * epochs, recipe.max_steps or sys.maxsize)
    fresh = not trained or (recipe.weights.freeze == (BACKBONE,) and recipe.weights.unfreeze is None)
    rate = decide.peak_rate(name, batch, model, has_weights=not fresh, num_steps=num_steps)
    if trained and fresh:
        rate = decide.Decision(rate.value, f"{rate.reason}; only the head trains, and it is fresh")
    lr = notes.settle("optimizer.lr", asked.lr, rate)
    coupled = asked.rest == "sgd"  # its decay is L2, as that of sgd
    l2 = notes.settle("optimizer.l2", asked.l2, decide.weight_decay("sgd" if coupled else name, has_weights=trained))
    rest_lr = asked.rest_lr
    if name == "muon":
        by_sgd = decide.peak_rate("sgd", batch, model, has_weights=not fresh, num_steps=num_steps)
        rest_lr = notes.settle("optimizer.rest_lr", rest_lr, by_sgd if coupled else decide.rest_rate(lr))
    lr = scaled_rate(asked, lr, batch, notes)
    warmup, decay, momentum = settle_schedule(recipe, notes, name=name, trained=trained)
    weights = recipe.weights
    if weights.unfreeze is not None and not weights.freeze:
        notes.note("weights.freeze", BACKBONE, "layers are to thaw, and all but the head can")
        weights = weights.replaced(freeze=(BACKBONE,))
    layout = decide.Decision(value=True, reason="convolutions are faster with the channels side by side")
    last = notes.settle("model.channels_last", recipe.model.channels_last, layout)
    by_rule = decide.Decision(value=False, reason="not compiled unless steps are measured to gain by it")
    compiles = notes.settle("model.compile", recipe.model.compile, by_rule)
    return recipe.replaced(
        batch_size=batch,
        epochs=epochs,
        optimizer=asked.replaced(name=name, lr=lr, l2=l2, rest_lr=rest_lr, lr_scaling="off", **momentum),
        warmup=warmup,
        decay=decay,
        weights=weights,
        model=recipe.model.replaced(name=network.name, channels_last=last, compile=compiles),
    )


def _settle_precision(
    recipe: Recipe, network: Network, opened: OpenedData, facts: DeviceFacts, device: torch.device, notes: Notebook
) -> tuple[Recipe, ChosenPrecision]:
    """Settle the precision, and in how many parts a batch fits into memory in it."""
    if recipe.accumulate != "auto":
        precision = choose_precision(recipe, network, opened, facts, device, notes)
        return recipe.replaced(precision=precision.config), precision
    measures = recipe.precision.mode == "auto"
    parts = Decision(1, "")
    if measures:  # in parts that fit, in fp32, which takes the most
        parts = choose_parts(recipe, network, opened.train, device, PrecisionConfig(mode="fp32"))
    divided = recipe.replaced(accumulate=parts.value)
    precision = choose_precision(divided, network, opened, facts, device, notes)
    if not measures or (parts.value > 1 and precision.config.mode != "fp32"):
        parts = choose_parts(recipe, network, opened.train, device, precision.config)
    accumulate = notes.settle("accumulate", "auto", parts)
    return recipe.replaced(precision=precision.config, accumulate=accumulate), precision


def _check_batch(recipe: Recipe, batch: int, network: Network) -> None:
    if recipe.accumulate != "auto" and recipe.accumulate > batch:
        raise RecipeError(
            f"accumulate = {recipe.accumulate} is more than the batch of {batch} images: a part would be empty",
            hint=f"at most {max(1, batch // 2)} parts of two images, or a larger --batch-size",
        )
    normalised = any(isinstance(layer, _BatchNorm) for layer in network.built.module.modules())
    if batch == 1 and normalised and not recipe.force:
        raise RecipeError(
            f"batch_size = 1: {network.name} has batch normalisation, which needs two images or more",
            hint="--batch-size 2 or more, or a network without it, such as vit_b_16 or convnext_tiny",
        )


def _note_left_over(num_train: int, batch: int, notes: Notebook) -> None:
    """Say what happens to the images of an epoch that do not fill a batch."""
    count = num_train % batch
    if count:
        images = f"{count} image{'s' if count > 1 else ''}"
        said = f"{images} less than a batch of {batch} left over, others in each epoch"
        notes.note("batches_per_epoch", num_train // batch, said)


def _check_warmup(recipe: Recipe, batches: int, total: int) -> None:
    span = decided(recipe.warmup.length)
    steps = span.steps(steps_per_epoch=batches, total_steps=total)
    if steps >= total and span != Span(0, "it") and total > 1:
        raise RecipeError(
            f"warmup.length = {span}: that is {steps} optimizer steps, and the whole run has {total}",
            hint="shorten it, for example --warmup 5%, or train longer",
        )
