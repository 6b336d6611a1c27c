"""Builds what a plan describes, and only builds."""

import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halftone.base.records import decided
from halftone.base.seeds import stream_seed
from halftone.data.augment.pipeline import Augment, Normalise
from halftone.data.cache.open import open_cache
from halftone.data.feed import Feed
from halftone.data.labelled import Labelled, Labels
from halftone.data.order import Order, balanced_order, epoch_order
from halftone.data.progressive import Sizes
from halftone.data.streaming import RandomBox, StreamingFeed, decode_all
from halftone.loop.evaluate import EvaluationSet
from halftone.loop.session import Session
from halftone.loop.stop import Best
from halftone.models.compiled import compiled
from halftone.optim.build import build_optimizer, usual_momentum
from halftone.optim.loss import Criterion, balanced_weights
from halftone.optim.penalty import L1Penalty
from halftone.optim.update_ratio import UpdateRatio
from halftone.precision.compute import evaluating
from halftone.precision.policy import loss_dtype
from halftone.precision.verbs import Precision
from halftone.run.courses import courses_of, stand_still
from halftone.run.model_file import ModelCard, unjudged_card
from halftone.run.plan.make import Prepared
from halftone.run.plan.pictures import crop_area
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.schedule.build import build_schedule
from halftone.system.memory import available_bytes
from halftone.weights.average import Average
from halftone.weights.freeze import Freezing


def seed_everything(seed: int) -> None:
    """Seed the streams that dropout and a user's own code draw from."""
    torch.manual_seed(stream_seed(seed, "torch"))
    random.seed(stream_seed(seed, "python"))
    np.random.seed(stream_seed(seed, "numpy") % 2**32)


def build_session(prepared: Prepared) -> Session:
    """Build everything on the device. The random streams stand where training begins."""
    plan, device, built = prepared.plan, prepared.device, prepared.built
    recipe = plan.settled
    if device.type == "cpu":
        torch.set_num_threads(decided(recipe.threads))
    if recipe.deterministic:  # cuBLAS reads this when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(recipe.deterministic)
    module = built.module
    stand_still(built, recipe.weights)
    steps = {"steps_per_epoch": plan.batches_per_epoch, "total_steps": plan.total_steps}
    courses, lanes = courses_of(built, recipe, plan.thaws, plan.halts, **steps)
    channels_last = decided(recipe.model.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.to(device).to(memory_format=layout)
    optimizer = build_optimizer(module, recipe.optimizer, head=built.head, courses=courses)
    sizes = Sizes(plan.input.size, plan.early_sizes, recipe.data.progressive_by)
    feed = training_feed(plan, prepared.train, device, sizes)
    session = Session(
        device=device,
        model=module,
        forward=compiled(module) if decided(recipe.model.compile) else module,
        freezing=Freezing(module, plan.thaws, plan.halts),
        criterion=_criterion(prepared),
        optimizer=optimizer,
        precision=Precision(
            recipe.precision, module, optimizer, clip_norm=recipe.optimizer.clip, measure_norm=recipe.run.grad_norm
        ),
        schedule=build_schedule(
            recipe.warmup, recipe.decay, momentum=usual_momentum(recipe.optimizer), lanes=lanes, **steps
        ),
        penalty=L1Penalty(optimizer, recipe.optimizer.l1) if recipe.optimizer.l1 else None,
        average=Average(module, recipe.average.decay) if recipe.average.decay else None,
        best=Best(recipe.stop.metric, recipe.stop.patience),
        feed=feed,
        order=_order(recipe, prepared.train.labels),
        augment=_augment(plan, device, sizes),
        prepare=_keep if channels_last else _plain_layout,
        validation=evaluation_set(plan, prepared.validation, device),
        sizes=sizes,
        batch_size=decided(recipe.batch_size),
        parts=decided(recipe.accumulate),
        batches_per_epoch=plan.batches_per_epoch,
        epochs=decided(recipe.epochs),
        max_batches=plan.total_steps,
        validate_every=recipe.run.validate_every,
        count_correct=not (recipe.augment.mixup or recipe.augment.cutmix),
        update_ratio=UpdateRatio(optimizer),
        update_ratio_every=recipe.run.update_ratio_every,
    )
    seed_everything(recipe.seed)
    return session


def _augment(plan: Plan, device: torch.device, sizes: Sizes) -> Augment:
    recipe = plan.settled
    return Augment(
        recipe.augment,
        plan.input,
        device,
        num_classes=len(plan.data.classes),
        seed=recipe.seed,
        crop=recipe.data.feed == "resident",
        sizes=sizes,
        batches_per_epoch=plan.batches_per_epoch,
    )


def _criterion(prepared: Prepared) -> Criterion:
    recipe, weights = prepared.plan.settled, None
    if recipe.loss.class_weights == "balanced":
        labels = torch.from_numpy(prepared.train.labels)
        weights = balanced_weights(labels, len(prepared.plan.data.classes)).to(prepared.device)
    return Criterion(
        recipe.loss,
        class_weights=weights,
        auxiliary=prepared.built.auxiliary,
        dtype=loss_dtype(recipe.precision.layers),
    )


def training_feed(plan: Plan, source: Labelled, device: torch.device, sizes: Sizes) -> Feed:
    """Build the feed of the training images."""
    recipe = plan.settled
    workers = decided(recipe.data.workers)
    if recipe.data.feed == "resident":
        return decode_all(source, plan.input, device, workers=workers, timeout=recipe.data.timeout)
    area = crop_area(recipe)
    box = None if area is None else RandomBox(area, recipe.seed)
    kept = None
    if recipe.data.cache in ("ram", "disk"):
        free = available_bytes(torch.device("cpu"))
        kept = open_cache(recipe.data.cache, source, plan.input, area, free_memory=free)
    size = None if sizes.by == "crop" else lambda epoch, batch: sizes.at(epoch * plan.batches_per_epoch + batch)
    return StreamingFeed(
        source,
        plan.input,
        device,
        workers=workers,
        box=box,
        kept=kept,
        size=size,
        timeout=recipe.data.timeout,
    )


def evaluation_set(plan: Plan, source: Labelled, device: torch.device, *, keep: bool | None = None) -> EvaluationSet:
    """Build the way of images to an evaluation, the same in training and long after it.

    Args:
        plan: of the run.
        source: the images.
        device: where to compute.
        keep: decode the images once and keep them; without it, as the plan says of the validation images.
    """
    workers, timeout = decided(plan.settled.data.workers), plan.settled.data.timeout
    feed: Feed
    if plan.keep_validation if keep is None else keep:
        feed = decode_all(source, plan.input, device, workers=workers, timeout=timeout)
    else:
        feed = StreamingFeed(source, plan.input, device, workers=workers, timeout=timeout)
    return set_of_card(unjudged_card(plan), feed, len(source.labels), device)


def set_of_card(card: ModelCard, feed: Feed, num_images: int, device: torch.device) -> EvaluationSet:
    """Build the way of images to a model as its card describes it.

    Args:
        card: of the model.
        feed: of the images.
        num_images: that it feeds.
        device: where to compute.
    """
    return EvaluationSet(
        feed=feed,
        num_images=num_images,
        batch_size=card.evaluation_batch,
        classes=card.classes,
        prepare=input_of_card(card, device),
        compute=partial(evaluating, card.precision, device.type),
        device=device,
        views=card.views,
    )


def input_of_card(card: ModelCard, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return what makes the network's input of uint8 images."""
    normalise = Normalise(card.input, device)
    return normalise if card.channels_last else lambda images: _plain_layout(normalise(images))


def _order(recipe: Recipe, labels: Labels) -> Any:
    def order(epoch: int) -> Order:
        if recipe.data.balanced:
            return balanced_order(labels, seed=recipe.seed, epoch=epoch)
        return epoch_order(len(labels), seed=recipe.seed, epoch=epoch)

    return order


def _keep(images: Tensor) -> Tensor:
    return images


def _plain_layout(images: Tensor) -> Tensor:
    return images.contiguous()
