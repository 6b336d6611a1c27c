"""Made-up comparisons that look like real ones, for tests of pages, tables and verdicts."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from halftone.comparison.records import (
    CompareConfig,
    Comparison,
    Digests,
    EpochPoint,
    Outcome,
    Variant,
)
from halftone.comparison.verdicts.pairing import auto_target
from halftone.comparison.verdicts.verdict import judge
from halftone.metrics.report import Metrics, report
from halftone.metrics.tally import Tally

EPOCHS = 12


def two_variants(*, seeds: int = 5, num_classes: int = 10) -> Comparison:
    """One setting, two values, every run finished: bf16 is as accurate as fp32 and faster."""
    variants = (
        Variant(name="precision=fp32", changes={"precision": "fp32"}),
        Variant(name="precision=bf16", changes={"precision": "bf16"}),
    )
    outcomes = []
    for seed in range(seeds):
        outcomes.append(finished(variants[0], seed, skill=5.2, speed=1.0, num_classes=num_classes))
        outcomes.append(finished(variants[1], seed, skill=5.19, speed=1.9, num_classes=num_classes, memory=0.57))
    return comparison(variants, outcomes)


def four_variants(*, seeds: int = 5, num_classes: int = 10) -> Comparison:
    """Two settings, a grid of four; with loss scales, and one run that diverged."""
    variants = tuple(
        Variant(name=f"precision={precision}, warmup={warmup}", changes={"precision": precision, "warmup": warmup})
        for precision in ("fp32", "fp16")
        for warmup in ("none", "3ep")
    )
    skills, speeds = (4.9, 5.4, 4.7, 5.4), (1.0, 1.0, 1.8, 1.8)
    outcomes = []
    for seed in range(seeds):
        for number, variant in enumerate(variants):
            if number == 2 and seed == 3:
                outcomes.append(diverged(variant, seed))
                continue
            run = finished(variant, seed, skill=skills[number], speed=speeds[number], num_classes=num_classes)
            outcomes.append(run)
    return comparison(variants, outcomes)


def many_variants(count: int = 12, *, seeds: int = 3, num_classes: int = 10) -> Comparison:
    """One setting with many values; the last one always diverges."""
    variants = tuple(Variant(name=f"lr={0.01 * 2**number:g}", changes={"lr": f"{number}"}) for number in range(count))
    outcomes = []
    for seed in range(seeds):
        for number, variant in enumerate(variants[:-1]):
            skill = 5.2 - 0.07 * (number - 4) ** 2
            outcomes.append(finished(variant, seed, skill=skill, speed=1.0, num_classes=num_classes))
        outcomes.append(diverged(variants[-1], seed))
    return comparison(variants, outcomes)


def finished(
    variant: Variant, seed: int, *, skill: float, speed: float, num_classes: int = 10, memory: float = 1.0
) -> Outcome:
    """A run; runs of one seed share most of their luck, as pairs do."""
    own = np.random.default_rng([seed, sum(map(ord, variant.name))])
    metrics = evaluated(seed, skill + own.normal(0, 0.05), own, num_classes)
    assert metrics.accuracy is not None
    assert metrics.loss is not None
    scaled = variant.changes.get("precision") == "fp16"
    warmup = 3 if variant.changes.get("warmup") == "3ep" else 0
    slow = 1.4 if warmup else 1.0
    rows = []
    for epoch in range(1, EPOCHS + 1):
        learnt = 1 - math.exp(-epoch / (1.6 * slow)) if epoch < EPOCHS else 1.0
        rate = 0.1 * epoch / warmup if epoch < warmup else 0.05 * (1 + math.cos(math.pi * epoch / (EPOCHS + 1)))
        row = EpochPoint(
            epoch=epoch,
            seconds=epoch * 1.31 / speed + own.normal(0, 0.02),
            train_loss=metrics.loss + 2.1 * (1 - learnt) * own.uniform(0.9, 1.1),
            val_loss=metrics.loss + 1.9 * (1 - learnt) * own.uniform(0.9, 1.1),
            val_accuracy=min(1.0, max(0.0, metrics.accuracy * learnt + own.normal(0, 0.004) * (epoch < EPOCHS))),
            lr=rate,
            loss_scale=2.0 ** (16 - (epoch < 3) - (epoch + seed < 6)) if scaled else None,
        )
        rows.append(row)
    return Outcome(
        variant=variant.name,
        seed=seed,
        folder=f"runs/{variant.name.replace(', ', ',')},seed={seed}",
        status="finished",
        metrics=metrics,
        best_epoch=EPOCHS,
        epochs=tuple(rows),
        last_accuracy=metrics.accuracy,
        settled={"precision": variant.changes.get("precision", "fp32"), "lr": "0.1", "batch_size": "64"},
        digests=Digests(weights=f"w{seed:07x}", order=f"0{seed:07x}", images=f"a{seed:07x}"),
        startup_seconds=2.1 + own.uniform(0, 0.3),
        train_seconds=EPOCHS * 1.1 / speed + own.normal(0, 0.15),
        images_per_second=1310 * speed + own.normal(0, 20),
        peak_memory_mb=610 * memory + own.normal(0, 4),
        skipped_steps=int(own.integers(1, 4)) if scaled else 0,
    )


def diverged(variant: Variant, seed: int, *, epochs: int = 4) -> Outcome:
    """A run that broke in its fifth epoch, without any weights that can be measured."""
    rows = tuple(
        EpochPoint(
            epoch=epoch,
            seconds=epoch * 0.8,
            train_loss=2.3 * 3.0**epoch,
            val_loss=2.3 * 4.0**epoch,
            val_accuracy=0.1 + 0.02 * (epoch % 2),
            lr=0.1,
            loss_scale=2.0 ** (16 - 3 * epoch) if variant.changes.get("precision") == "fp16" else None,
        )
        for epoch in range(1, epochs + 1)
    )
    fault = "training diverged at step 118: the loss is not finite after 20 skipped steps"
    return Outcome(
        variant=variant.name,
        seed=seed,
        folder=f"runs/{variant.name.replace(', ', ',')},seed={seed}",
        status="diverged",
        fault=fault,
        epochs=rows,
        skipped_steps=20,
    )


def evaluated(seed: int, skill: float, own: np.random.Generator, num_classes: int) -> Metrics:
    """The evaluation of a made-up classifier: the higher its skill, the more of the images are right."""
    shared = np.random.default_rng(seed)
    labels = np.arange(max(1800, 20 * num_classes)) % num_classes
    logits = shared.normal(0, 1.0, (len(labels), num_classes)) + own.normal(0, 0.1, (len(labels), num_classes))
    hard = np.linspace(0.8, -0.8, num_classes)[labels]
    logits[np.arange(len(labels)), labels] += skill + hard - 0.9 * math.log10(num_classes)
    tally = Tally(num_classes, torch.device("cpu"))
    tally.add(torch.from_numpy(logits), torch.from_numpy(labels))
    return report(tally, tuple(f"class {number}" for number in range(num_classes)))


def comparison(variants: Sequence[Variant], outcomes: Sequence[Outcome], **config: float) -> Comparison:
    """Put runs together, and judge them."""
    settings = CompareConfig.parse({"seeds": max((run.seed for run in outcomes), default=0) + 1, **config})
    target = auto_target(outcomes)
    return Comparison(
        name="digits-precision",
        command="halftone compare digits --vary precision=fp32,bf16 --seeds 5 --epochs 12 --model cifar_resnet8",
        config=settings,
        variants=tuple(variants),
        outcomes=tuple(outcomes),
        verdicts=judge(variants, outcomes, settings, target=target),
        target=target,
        notes=(
            "No joules: this machine has no energy meter that can be read.",
            "Runs of one seed share starting weights, the order of the images and their augmentation.",
        ),
        environment={"halftone": "0.4.0", "torch": "2.11.0", "device": "cpu, 2 threads", "system": "Linux 6.1"},
    )
