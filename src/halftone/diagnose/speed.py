"""Speed diagnosed on the user's own network, images and machine: where a step's time goes, and what limits it."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from halftone.base.laps import Laps
from halftone.base.records import decided
from halftone.data.config import AugmentConfig
from halftone.diagnose.speed_pace import (
    MOST_STEPS,
    WARM,
    changing_pace,
    copying_pace,
    measure_paces,
    random_batch,
    reading_pace,
)
from halftone.diagnose.speed_precision import precision_paces
from halftone.diagnose.speed_record import Circumstances, Measured, SpeedDiagnosis
from halftone.diagnose.speed_verdict import judge, remedies, sentence
from halftone.precision.formats import float32_arithmetic
from halftone.run.measuring import measuring
from halftone.run.plan.make import Prepared
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from halftone.system.memory import available_bytes, keep_freed_memory
from halftone.system.threads import usable_cores

Say = Callable[[str], None]


def diagnose_speed(
    recipe: Recipe,
    *,
    seconds: float = 20.0,
    data: Any = None,
    model: nn.Module | None = None,
    before: Mapping[str, float] | None = None,
    say: Say = lambda _: None,
) -> SpeedDiagnosis:
    """Take the time of training steps, of their parts, and of each part alone.

    All is measured on a copy of the network, with rates of zero, so that each step does the same work; the random
    streams stay as they are. Steps come in turns with and without the data path: a busy machine is busy to both.

    Args:
        recipe: what would be trained.
        seconds: to measure the steps for, about; the parts alone and other precisions take about as long again.
        data: data passed in Python.
        model: a network passed in Python; it stays as it is.
        before: seconds that were spent before this was called, such as on imports, by name.
        say: hears what is being done.

    Raises:
        HalftoneError: as for training.
    """
    if recipe.keep_memory:
        keep_freed_memory()
    say("planning")
    prepared = prepare(recipe, data=data, model=model)
    around = circumstances(prepared)
    measured = _measure(prepared, around, seconds, before or {}, say)
    kind = judge(measured, around)
    return SpeedDiagnosis(
        verdict=kind,
        sentence=sentence(kind, measured, around),
        remedies=remedies(kind, measured, around),
        circumstances=around,
        measured=measured,
    )


def _measure(
    prepared: Prepared, around: Circumstances, seconds: float, before: Mapping[str, float], say: Say
) -> Measured:
    """Take all the times, on a copy of the network."""
    laps, settled, few = Laps(), prepared.plan.settled, seconds / 10
    with (
        measuring(prepared, num_batches=WARM + MOST_STEPS + 1, whole=True) as session,
        float32_arithmetic(decided(settled.precision.mode)),
    ):
        laps.lap("building")
        for group in session.optimizer.param_groups:
            group["peak"] = 0.0  # the weights stay, and each step does the same work
        channels, num_classes = prepared.plan.input.channels, len(prepared.plan.data.classes)
        images = session.batch_size
        batch = random_batch(session, images, size=around.size, channels=channels, num_classes=num_classes)
        say("steps, with and without the data path")
        paces = measure_paces(session, batch, seconds=seconds, max_skipped=settled.precision.max_skipped)
        say("reading and changing images alone")
        reading, changing = reading_pace(session, seconds=few), changing_pace(session, batch, seconds=few)
        copying = copying_pace(session, batch)
        say("other precisions")
        inputs, targets = session.augment(batch, 0)
        precisions = precision_paces(prepared, session, session.prepare(inputs), targets, seconds=seconds / 2)
    return Measured(
        num_steps=paces.num_steps,
        step=paces.step,
        real=paces.real,
        model=paces.model,
        share=paces.share,
        half_batch=paces.half_batch,
        reading=reading,
        changing=changing,
        copying=copying,
        precisions=precisions,
        start={**before, **prepared.seconds, **laps.seconds, "first step": paces.first_step},
    )


def circumstances(prepared: Prepared) -> Circumstances:
    """Gather what the plan and the machine are, as far as speed depends on it."""
    plan, train = prepared.plan, prepared.train
    settled, spec = plan.settled, plan.input
    return Circumstances(
        model=settled.model.name,
        device=plan.device,
        device_kind=prepared.device.type,
        size=spec.size,
        batch_size=decided(settled.batch_size),
        precision=decided(settled.precision.mode),
        precision_asked=plan.asked.precision.mode != "auto",
        feed=decided(settled.data.feed),
        workers=decided(settled.data.workers),
        threads=decided(settled.threads),
        cores=usable_cores(),
        load=os.getloadavg()[0],
        picture_side=prepared.survey.median_side,
        decoded_bytes=len(train.labels) * spec.size**2 * spec.channels,
        free_bytes=available_bytes(prepared.device),
        cache=decided(settled.data.cache),
        keeps_memory=settled.keep_memory,
        channels_last=decided(settled.model.channels_last),
        deterministic=settled.deterministic,
        heavy_changes=_is_heavy(settled.augment),
    )


def _is_heavy(augment: AugmentConfig) -> bool:
    """Tell whether more is changed than mirroring, shifting and cropping, which `light` leaves."""
    amounts = (augment.rotate, augment.brightness, augment.contrast, augment.saturation, augment.hue, augment.erase)
    return decided(augment.random_ops) != "none" or any(decided(amount) for amount in amounts)
