"""The part of the plan that concerns precision: asked for, checked; or found by measuring the network itself."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import nn

from halftone.base.errors import HalftoneError, RecipeError
from halftone.base.records import decided
from halftone.optim.loss import Criterion
from halftone.precision.config import Mode, PrecisionConfig, evaluation_config, uses_scaling
from halftone.precision.formats import check_tf32, emulation
from halftone.precision.fp8 import check_fp8, expected_gain
from halftone.precision.policy import settle_layers
from halftone.precision.probe import Finding, Measured, Probe
from halftone.precision.trial import Candidate, Trial, affordable
from halftone.run.plan import cache, decide, explain
from halftone.run.plan.data import OpenedData
from halftone.run.plan.network import Network, training_copy
from halftone.run.plan.notebook import Notebook
from halftone.run.plan.sample import Sample, sample_images
from halftone.run.recipe import Recipe
from halftone.system.device import DeviceFacts, device_facts
from halftone.version import __version__

_SHARE_OF_RUN = 0.05
"""A probe may take this share of the run that it is for, and half a second in any case."""
_MORE_TIME = 1.5
"""A finding for which the time did not suffice is measured anew with this many times of it."""


@dataclass(frozen=True, slots=True)
class ChosenPrecision:
    """The settled precision and what was measured for it."""

    config: PrecisionConfig
    evidence: tuple[Measured, ...] = ()


def choose_precision(
    recipe: Recipe, network: Network, opened: OpenedData, facts: DeviceFacts, device: torch.device, notes: Notebook
) -> ChosenPrecision:
    """Settle the precision of a recipe whose data, batch and epochs are settled.

    Raises:
        RecipeError: what was asked for cannot be.
        ResourceError: the device lacks it.
    """
    asked = recipe.precision
    settle_layers(network.built.module, asked.layers)
    if "tf32" in facts.native:
        products = "tf32" if asked.mode == "tf32" else "fp32"
        notes.note("fp32 products", products, "of matrices and convolutions alike, whatever torch's own defaults are")
    if asked.mode != "auto":
        _refuse(recipe, network, facts, device, notes)
        return ChosenPrecision(_closed(asked))
    modes = candidates(facts)
    rule = decide.precision(facts, network.spec.size)
    if len(modes) == 1 or not asked.probe_seconds:
        return _settled(asked, rule.value, rule.reason, notes)
    try:
        found, seconds, known = _found(recipe, network, opened, device, modes)
    except (HalftoneError, RuntimeError, TypeError, copy.Error) as error:
        problem = " ".join(str(error).split())[:120]
        return _settled(asked, rule.value, f"{rule.reason} (measuring failed: {problem})", notes)
    decoding = seconds if recipe.data.feed == "streaming" else 0.0
    reason = explain.reason(found, network.built.module, facts, decoding=decoding)
    if known:
        reason += "; measured before, on this machine"
    chosen = Candidate(found.mode, found.layers)
    return ChosenPrecision(_settled(asked, chosen, reason, notes).config, found.evidence)


def candidates(facts: DeviceFacts) -> tuple[Mode, ...]:
    """Return the uniform modes that are worth measuring on a device: those that it does not emulate.

    Never fp16 on a CPU: with AVX-512 FP16, too, PyTorch's backward pass takes many times as long as in fp32.
    """
    possible: tuple[Mode, ...] = ("fp32", "tf32", "bf16", "bf16-true")
    possible += () if facts.kind == "cpu" else ("fp16", "fp16-true")
    return tuple(mode for mode in possible if mode.removesuffix("-true") in facts.native)


def _settled(asked: PrecisionConfig, chosen: Candidate, reason: str, notes: Notebook) -> ChosenPrecision:
    notes.note("precision.mode", chosen.mode, reason)
    layers = asked.layers or chosen.layers
    if layers and not asked.layers:
        shown = ", ".join(f"{name} in {kind}" for name, kind in list(layers.items())[:6])
        more = f" and {len(layers) - 6} more" if len(layers) > 6 else ""
        notes.note("precision.layers", shown + more, "slower in the reduced format than in fp32")
    return ChosenPrecision(_closed(asked.replaced(mode=chosen.mode, layers=layers)))


def _closed(config: PrecisionConfig) -> PrecisionConfig:
    """Settle what follows from the mode."""
    scaling = config.scaling
    if scaling == "auto":
        scaling = "dynamic" if uses_scaling(config) else "off"
    return config.replaced(scaling=scaling, evaluation=evaluation_config(config).mode)


def _found(
    recipe: Recipe, network: Network, opened: OpenedData, device: torch.device, modes: tuple[Mode, ...]
) -> tuple[Finding, float, bool]:
    """Return what a probe finds or found before, the seconds to decode an image, and whether it was found before."""
    part = -(-decided(recipe.batch_size) // decided(recipe.accumulate))
    with _threads(decided(recipe.threads), device):
        model, layout = training_copy(network, recipe, device)
        count = min(part, opened.facts.num_train)
        batch = sample_images(opened.train, network.spec, device, data=recipe.data, count=count)
        key = _key(model, batch, recipe, modes, device)
        known = cache.read("precision", key, Finding)
        if known is not None and known.complete:
            return known, batch.seconds, True
        criterion = Criterion(recipe.loss, auxiliary=network.built.auxiliary)
        size, step = affordable(model, batch.images, batch.targets, criterion, seconds=_budget(recipe, device))
        steps = decided(recipe.epochs) * (opened.facts.num_train // decided(recipe.batch_size))
        steps = min(steps, recipe.max_steps or steps) * decided(recipe.accumulate)
        seconds = min(_budget(recipe, device), 0.5 + _SHARE_OF_RUN * steps * step)
        if known is not None and seconds < _MORE_TIME * known.budget:
            return known, batch.seconds, True
        images = batch.images[:size].contiguous(memory_format=layout)
        trial = Trial(model, images, batch.targets[:size], criterion)
        found = Probe(trial, modes, seconds=seconds, layers=recipe.precision.layers).run(size)
        cache.write("precision", key, found)
        return found, batch.seconds, False


def _budget(recipe: Recipe, device: torch.device) -> float:
    seconds = recipe.precision.probe_seconds
    return seconds if device.type == "cpu" else seconds / 2


def _key(model: nn.Module, batch: Sample, recipe: Recipe, modes: tuple[Mode, ...], device: torch.device) -> str:
    """Return what a finding depends on, hashed: network, batch, device, versions, threads, what was asked."""
    shapes = [(name, tuple(value.shape), value.requires_grad) for name, value in model.named_parameters()]
    return cache.key_of(
        str(model),
        shapes,
        tuple(batch.images.shape),
        batch.images.stride(),
        device_facts(device).name,
        (recipe.threads, recipe.keep_memory, recipe.accumulate, recipe.model.channels_last),
        (recipe.precision.layers, modes),
        (torch.__version__, __version__),
    )


@contextmanager
def _threads(count: int, device: torch.device) -> Iterator[None]:
    """Measure with the threads of the training to come."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            torch.set_num_threads(before)


def _refuse(recipe: Recipe, network: Network, facts: DeviceFacts, device: torch.device, notes: Notebook) -> None:
    """Refuse what is known to be a bad idea, unless forced; say what emulation costs, and what fp8 will do."""
    asked = recipe.precision
    mode: Mode = decided(asked.mode)
    slow = mode in ("fp16", "fp16-true") and facts.kind == "cpu"
    if slow and asked.emulate is None:
        why = "it is emulated there, 12 to 31 times slower than fp32"
        if "fp16" in facts.native:
            why = "its instructions are there, but PyTorch's backward pass is still far slower than in fp32"
        if not recipe.force:
            hint = (
                "use --precision bf16 or fp32, or rehearse it: --precision.emulate fp16; --force runs it all the same"
            )
            raise RecipeError(f"precision.mode = {mode} on a CPU: {why}", hint=hint)
        notes.note("precision.mode", mode, f"forced, on a CPU: {why}")
    elif asked.emulate is None and (cost := emulation(mode, facts)) is not None:
        notes.note("precision.mode", mode, f"asked for; {cost}")
    check_tf32(mode, facts, hint="use --precision fp32, or rehearse it: --precision.emulate tf32")
    if mode == "fp8":
        notes.note(
            "precision.mode",
            "fp8",
            expected_gain(network.built.module, keep=settle_layers(network.built.module, asked.layers)),
        )
        check_fp8(device)
