"""Precision diagnosed on the user's own network and images: health in a format, and the types of a live step."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from halftone.base.errors import DataError
from halftone.base.records import Record, decided
from halftone.data.feed import Batch
from halftone.loop.session import Session
from halftone.loop.step import update
from halftone.precision.agreement import Agreement
from halftone.precision.config import Emulated, LayerFormat, Mode, PrecisionConfig
from halftone.precision.formats import HALVES
from halftone.precision.health import Health, health
from halftone.precision.master import lost_share
from halftone.precision.trial import Trial
from halftone.precision.types_seen import LayerTypes, TypesSeen
from halftone.precision.watch import LayerNumbers, watched
from halftone.run.plan.make import Prepared
from halftone.run.plan.record import Plan
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from halftone.system.memory import keep_freed_memory


class LayerError(Record):
    """How far a layer's gradient in the format is from that in fp32."""

    name: str
    cosine: float
    relative_error: float
    underflow: float


class Rehearsed(Record):
    """One step rehearsed in the format, against the same step in fp32."""

    loss_scale: float
    layers_in_fp32: tuple[str, ...]
    cosine: float | None
    """Of the whole gradient; None if it is not finite."""
    relative_error: float | None
    underflow: float
    """Share of its values that are zero here and not in fp32."""
    layers: tuple[LayerError, ...]


class PrecisionDiagnosis(Record):
    """What was found."""

    format: str
    num_steps: int
    """Training steps in fp32 that were watched."""
    batch_size: int
    health: Health
    before: Rehearsed
    """Without a loss scale, every layer in the format."""
    after: Rehearsed
    """With the proposed loss scale, and the layers to keep in fp32."""
    lost_updates: float | None
    """Share of updates that weights in the format without masters would lose; None for formats of eight bits."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A diagnosis, and the numbers behind it."""

    plan: Plan
    diagnosis: PrecisionDiagnosis
    numbers: dict[str, LayerNumbers]

    def fixed(self) -> Recipe:
        """Return what was asked, with the proposed precision."""
        health, asked = self.diagnosis.health, self.plan.asked.precision
        scale = asked.scale if health.loss_scale == 1 else min(health.loss_scale, asked.scale_cap)
        layers = {**asked.layers, **dict.fromkeys(health.keep, "fp32")}
        precision = asked.replaced(mode=_mode(health.format), layers=layers, scale=scale, emulate=None)
        return self.plan.asked.replaced(precision=precision)


def diagnose_precision(recipe: Recipe, format_name: Emulated, *, num_steps: int = 10) -> Watched:
    """Train for a few steps in fp32, watch every layer, and judge the numbers by a format.

    Args:
        recipe: what would be trained; its precision is set aside.
        format_name: the format to judge by; no hardware for it is needed.
        num_steps: training steps to watch.

    Raises:
        HalftoneError: as for training.
    """
    full = recipe.replaced(precision=PrecisionConfig(mode="fp32"))
    with _session(full) as (prepared, session):
        with watched(session.model) as numbers:
            images, targets, before = _train(session, num_steps)
        found = health(numbers, format_name, scale_cap=recipe.precision.scale_cap)
        trial = Trial(copy.deepcopy(session.model), images, targets, session.criterion)
        reference = trial.gradients(PrecisionConfig(mode="fp32"))

        def rehearsed(scale: float, keep: tuple[str, ...]) -> Rehearsed:
            layers: dict[str, LayerFormat] = dict.fromkeys(keep, "fp32")
            cap = max(scale, 2.0**24)
            config = PrecisionConfig(emulate=format_name, scaling="static", scale=scale, scale_cap=cap, layers=layers)
            return _rehearsed(trial.agreement(config, reference), scale, keep)

        diagnosis = PrecisionDiagnosis(
            format=format_name,
            num_steps=num_steps,
            batch_size=decided(prepared.plan.settled.batch_size),
            health=found,
            before=rehearsed(1.0, ()),
            after=rehearsed(found.loss_scale, found.keep),
            lost_updates=_lost_updates(before, session.model, format_name),
        )
        plan = prepared.plan.replaced(asked=recipe)
        return Watched(plan, diagnosis, numbers)


def types_of_step(recipe: Recipe) -> tuple[Plan, list[LayerTypes]]:
    """Train for two steps as a recipe says and return the types that each layer computed in.

    Raises:
        HalftoneError: as for training.
    """
    with _session(recipe) as (prepared, session):
        images, targets, _ = _train(session, 1)
        seen = TypesSeen(session.model)
        with seen.attached():
            with session.precision.forward(), seen:
                loss = session.criterion(session.model(images), targets)
            session.precision.backward(loss)
        session.precision.step()
        return prepared.plan, seen.table(session.optimizer.state)


def _mode(format_name: str) -> Mode:
    modes: dict[str, Mode] = {"fp8-e4m3": "fp8", "fp8-e5m2": "fp8", "fp16": "fp16", "bf16": "bf16", "tf32": "tf32"}
    return modes[format_name]


@contextmanager
def _session(recipe: Recipe) -> Iterator[tuple[Prepared, Session]]:
    if recipe.keep_memory:
        keep_freed_memory()
    prepared = prepare(recipe)
    threads = torch.get_num_threads()
    try:
        session = build_session(prepared)
        session.enter_training()
        yield prepared, session
    finally:
        torch.set_num_threads(threads)


def _train(session: Session, num_steps: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Take steps.

    Returns:
        The last batch as the network takes it, its labels, and the weights as they were before its step.
    """
    before: list[Tensor] = []
    taken: Batch | None = None
    for number, batch in zip(range(num_steps), _batches(session), strict=False):
        if len(batch.labels) < 2:
            continue
        before = [parameter.detach().clone() for parameter in session.model.parameters()]
        update(session, batch, step=number, tried=number)
        taken = batch
    if taken is None:
        raise DataError("none of the first images can be read", hint="`halftone check-data` says why")
    images, targets = session.augment(taken, num_steps)
    part = max(2, session.batch_size // session.parts)
    return session.prepare(images)[:part], targets[:part], before


def _batches(session: Session) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    for epoch in count():
        yield from session.feed.batches(session.order(epoch), session.batch_size, epoch=epoch)


def _rehearsed(found: Agreement, scale: float, keep: tuple[str, ...]) -> Rehearsed:
    finite = found.cosine == found.cosine and found.relative_error < float("inf")
    return Rehearsed(
        loss_scale=scale,
        layers_in_fp32=keep,
        cosine=found.cosine if finite else None,
        relative_error=found.relative_error if finite else None,
        underflow=found.underflow,
        layers=tuple(
            LayerError(
                name=layer.name, cosine=layer.cosine, relative_error=layer.relative_error, underflow=layer.underflow
            )
            for layer in found.layers
            if layer.cosine == layer.cosine and layer.relative_error < float("inf")
        ),
    )


def _lost_updates(before: list[Tensor], model: nn.Module, format_name: str) -> float | None:
    """Return the share of weights that changed in fp32 and would have stood still, rounded to the format."""
    dtype = HALVES.get(format_name)
    if dtype is None:
        return None
    after = [parameter.detach() for parameter in model.parameters()]
    changes = [new - old for new, old in zip(after, before, strict=True)]
    halves = [old.to(dtype) for old in before]
    moved = [(half.float() + change).to(dtype) for half, change in zip(halves, changes, strict=True)]
    return lost_share(halves, moved, changes)
