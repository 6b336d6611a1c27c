"""Why a precision was taken, in sentences: pure functions from what was measured and what the network is made of."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.conv import _ConvNd

from halftone.precision.policy import kind_of
from halftone.precision.probe import Finding, Measured
from halftone.system.device import DeviceFacts

_SHORT_STEP = 0.005
"""Seconds; below it, a step is spent on starting operations, not on computing."""
_FEW = 8
"""Images; below it, a GPU is not filled."""
_CHANNELS = 8
"""Tensor cores take channels in multiples of this."""


def reason(finding: Finding, model: nn.Module, facts: DeviceFacts, *, decoding: float) -> str:
    """Say why a finding came out as it did.

    Args:
        finding: of the probe.
        model: the network.
        facts: on the device.
        decoding: seconds to decode an image.
    """
    taken = next(one for one in finding.evidence if one.verdict == "taken")
    step = min(taken.seconds)
    said = _gained(finding, taken) if taken.mode != "fp32" else _not_gained(finding, model, facts)
    if decoding * finding.num_images > step:
        said += (
            f"; data-bound: decoding takes {decoding * finding.num_images / step:.1f} times as long as the step, so "
            "precision changes little"
        )
    return said if finding.complete else f"{said} (the time did not suffice to measure all)"


def _gained(finding: Finding, taken: Measured) -> str:
    said = f"{taken.speed:.2f} times as fast as fp32"
    plain = next((one for one in finding.evidence if one.mode == taken.mode and not one.layers), None)
    if taken.layers and plain is not None and plain.speed and taken.speed:
        said += f" and {taken.speed / plain.speed:.2f} times as {taken.mode} throughout"
    full = next(one for one in finding.evidence if one.mode == "fp32")
    if taken.activation_mb and full.activation_mb:
        said += f", {taken.activation_mb / full.activation_mb:.2f} of the memory for activations"
    if taken.cosine is not None:
        said += f", gradients agree (cosine {taken.cosine:.3f})"
    return f"{said}; medians of {finding.rounds} full steps on {finding.num_images} images"


def _not_gained(finding: Finding, model: nn.Module, facts: DeviceFacts) -> str:
    others = [one for one in finding.evidence if one.mode not in ("fp32", "tf32") and one.speed and one.fits]
    if not others:
        return "no other format runs here with gradients that agree"
    best = max(others, key=lambda one: one.speed or 0.0)
    said = f"{best.name} is {best.speed:.2f} times as fast"
    causes = list(why_no_gain(finding, model, facts))
    return f"{said}: {', '.join(causes)}" if causes else said


def why_no_gain(finding: Finding, model: nn.Module, facts: DeviceFacts) -> Iterator[str]:
    """Yield what speaks against a reduced format here."""
    full = next(one for one in finding.evidence if one.mode == "fp32")
    if "bf16" not in facts.native and "fp16" not in facts.native:
        yield f"{facts.name} would emulate bf16 and fp16"
    if min(full.seconds) < _SHORT_STEP:
        yield f"a step takes {1000 * min(full.seconds):.1f} ms, and casting costs what the products save"
    if facts.kind != "cpu" and finding.num_images < _FEW:
        yield f"{finding.num_images} images do not fill the device"
    tf32 = next((one for one in finding.evidence if one.mode == "tf32" and one.speed), None)
    if tf32 is not None and tf32.speed and tf32.speed > 1.2:
        yield f"tf32 brings most of it already ({tf32.speed:.2f} times as fast)"
    convolutions = [layer for layer in model.modules() if isinstance(layer, _ConvNd)]
    depthwise = [layer for layer in convolutions if kind_of(layer) == "depthwise"]
    if convolutions and len(depthwise) > 0.2 * len(convolutions):
        yield f"{len(depthwise)} of {len(convolutions)} convolutions are depthwise, which reduced formats hardly help"
    odd = [layer for layer in convolutions if layer.in_channels % _CHANNELS or layer.out_channels % _CHANNELS]
    if convolutions and len(odd) > 0.25 * len(convolutions):
        yield f"{len(odd)} of {len(convolutions)} convolutions have channels that are no multiple of {_CHANNELS}"
