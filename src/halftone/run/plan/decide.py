"""The decisions, each a pure function from facts to a value and its reason."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from halftone.data.config import AugmentConfig
from halftone.data.survey import Survey
from halftone.models.built import Native
from halftone.models.small import TINY_SIDE
from halftone.optim.config import OptimizerName
from halftone.precision.trial import Candidate
from halftone.run.plan.record import ModelFacts
from halftone.system.device import DeviceFacts

Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)
SMALL_SIDE = 64
"""Pictures up to this many pixels a side are small: they fit in memory whole, and small networks suffice."""
_USUAL_SIDE = 256
"""Up to this many pixels a side, batches are as large as usual."""
GLYPHS = frozenset({"digits", "mnist", "kmnist", "emnist", "usps", "svhn"})
"""Data sets of signs that mean something else when mirrored."""
_WORTH_AN_ITERATION = 1 << 16
"""Pixels in a batch from which Muon's work on the weights is small beside the rest of the step."""
CYCLE_START = 0.04
"""The first rate of a one-cycle over its peak, as in torch's OneCycleLR."""
_MUON_SUM, _LOWEST_MUON = 80.0, 0.01
"""Rate times steps: with the usual decay of 0.05, the weights are renewed four times in a run, however long it is (a
network with normalisation is indifferent to their norm; Wang and Aitchison 2024 measure runs by this time constant)."""
_HIGHEST_MUON, _NARROW = (0.02, 0.16), 576
"""The highest rate: the second up to this many inputs of the widest layer, falling to the first."""
_TRANSFORMERS = ("vit", "swin", "deit", "beit", "maxvit", "convnext", "cait", "xcit", "mixer", "eva")


@dataclass(frozen=True, slots=True)
class Decision(Generic[Value_co]):
    """A value and the sentence that explains it."""

    value: Value_co
    reason: str


def model_name(survey: Survey, *, pretrained: bool) -> Decision[str]:
    """Choose a network by the size of the pictures."""
    if pretrained and survey.median_side <= SMALL_SIDE:
        return Decision("resnet18", "the smallest residual network with published weights")
    if survey.median_side <= SMALL_SIDE:
        return Decision("cnn", f"pictures of {survey.median_side} pixels: a small network sees all there is")
    return Decision(
        "resnet18", f"pictures of {survey.median_side} pixels; the smallest residual network of torchvision"
    )


def input_size(survey: Survey, native: Native | None, *, has_weights: bool) -> Decision[int]:
    """Choose the size of the network's input."""
    side = survey.median_side
    if native is None:
        if survey.uniform is not None and survey.uniform[0] == survey.uniform[1]:
            size = max(4, min(survey.uniform[0], 256))
            return Decision(size, "the pictures' own size" if size == side else f"the pictures have {side} pixels")
        shapes = "differ in size" if survey.uniform is None else "are not square"
        return Decision(max(16, min(side, 128)), f"the pictures {shapes}; the median of the shorter sides is {side}")
    if native.fixed:
        return Decision(native.size, "the only size that this network takes")
    if has_weights:
        return Decision(native.size, "the size that the weights were trained on")
    size = min(native.size, max(native.smallest, -(-side // 32) * 32))
    if size == native.size:
        return Decision(size, "the size that this network was designed for")
    return Decision(size, f"enough for pictures of {side} pixels (the network was designed for {native.size})")


def channels(survey: Survey, *, has_weights: bool) -> Decision[Literal[1, 3]]:
    """Choose between gray and colour."""
    if survey.gray_share < 1:
        return Decision(3, "the pictures are in colour" if survey.gray_share == 0 else "some pictures are in colour")
    if has_weights:
        return Decision(3, "the pictures are gray, but the weights were trained on three channels")
    return Decision(1, "all pictures are gray" if survey.complete else "all pictures of a sample are gray")


def feed(survey: Survey, *, in_memory: bool, size: int, num_bytes: int, free_bytes: int) -> Decision[str]:
    """Choose between keeping the decoded set and decoding while training."""
    megabytes = num_bytes / 2**20
    amount = f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"
    if num_bytes > free_bytes // 4:
        return Decision("streaming", f"decoded, the set takes {amount}, more than a quarter of the free memory")
    if in_memory:
        return Decision("resident", f"the set is in memory already and takes {amount} on the device")
    small = survey.uniform is not None and max(survey.uniform) <= max(SMALL_SIDE, size)
    if small:
        return Decision("resident", f"all pictures share one small size; decoded, the set takes {amount}")
    return Decision("streaming", "the pictures differ in size or are large, and random crops need the whole of them")


def cache(
    *, feed: str, passes: float, identified: bool, num_bytes: int, free_disk: int, free_memory: int
) -> Decision[Literal["off", "ram", "disk"]]:
    """Choose whether and where decoded training images are kept.

    Args:
        feed: how images reach the network.
        passes: over the training images in the run.
        identified: whether the set can be told from others, so that a file may hold it.
        num_bytes: that all of them take when they are kept.
        free_disk: bytes.
        free_memory: bytes; files are fast only while the system keeps their pages in it.
    """
    if feed != "streaming":
        return Decision("off", "the decoded set is resident")
    if passes < 2:
        return Decision("off", "each image is used about once")
    amount = f"decoded, the images take {num_bytes / 2**20:,.0f} MB"
    if identified and num_bytes <= free_disk // 4 and num_bytes <= free_memory // 2:
        return Decision("disk", f"{amount}, at most a quarter of the free disk and half of the free memory")
    if num_bytes <= free_memory // 4:
        return Decision("ram", f"{amount}, at most a quarter of the free memory")
    return Decision("off", f"{amount}, more than a quarter of the free disk or half of the free memory")


def augmentation(
    config: AugmentConfig, *, size: int, small: bool, source: str, gray: bool
) -> tuple[AugmentConfig, str]:
    """Settle what is left at auto, by the size of the pictures."""
    chosen: dict[str, object] = {
        "flip": 0.0,
        "pad_crop": 0,
        "border": "reflect",
        "resized_crop": "none",
        "rotate": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "random_ops": "none",
        "erase": 0.0,
    }
    if config.policy == "none":
        reason = "asked for none"
    else:
        glyphs = source.removeprefix("hf:").rpartition("/")[2] in GLYPHS
        chosen["flip"] = 0.0 if glyphs else 0.5
        chosen["border"] = "edge" if glyphs else "reflect"
        mirrored = "no mirroring of signs" if glyphs else "mirrored"
        if small:
            shift = max(1, size // 14)
            chosen["pad_crop"] = shift
            reason = f"small pictures: shifted by up to {shift} pixel{'s' if shift > 1 else ''}, {mirrored}"
        else:
            chosen["resized_crop"] = (0.35, 1.0)
            reason = f"photos: random crops of 35 to 100 % of the area, {mirrored}"
            if config.policy != "light":
                chosen |= {"brightness": 0.2, "contrast": 0.2, "saturation": 0.0 if gray else 0.2, "rotate": 5.0}
                reason += ", light and colours changed by up to 20 %, turned by up to 5 degrees"
        if config.policy == "strong":
            chosen |= {"random_ops": "trivial", "erase": 0.25}
            reason += ", TrivialAugment, erasing (strong)"
    kept = {name: value for name, value in chosen.items() if getattr(config, name) == "auto"}
    return config.replaced(**kept), reason


def views(count: int) -> str:
    """Say what several views of each image in an evaluation are."""
    shifted = ", both also shifted by a pixel two ways" if count == 6 else ""
    return f"asked; the image and its mirror image{shifted}; evaluation takes {count} times as long"


def batch_size(num_train: int, *, size: int, device: str) -> Decision[int]:
    """Choose how many images make a step."""
    usual = 32 if device == "cpu" else 128
    largest = 256 if size <= SMALL_SIDE else usual
    while largest > 8 and largest * size**2 > usual * _USUAL_SIDE**2:
        largest //= 2
    wanted = max(16, num_train // 32)
    chosen = min(largest, 1 << (wanted.bit_length() - 1), num_train)
    if chosen == largest:
        return Decision(chosen, f"usual for {size} pixels on {device}; more would mean fewer steps")
    return Decision(chosen, f"{num_train} images are few: a small batch gives more steps")


def epochs(num_train: int, *, size: int, has_weights: bool) -> Decision[int]:
    """Choose how often to pass over the images."""
    if has_weights:
        return Decision(10, "the weights are trained already")
    most = 24 if size < TINY_SIDE else 40
    count = min(most, max(10, -(-600_000 // max(num_train, 1))))
    reason = f"{count * num_train:,} images seen in all"
    return Decision(count, f"{reason}; there is little on {size} pixels" if count == most < 40 else reason)


def optimizer_name(facts: ModelFacts, *, small: bool, has_weights: bool, pixels: int) -> Decision[OptimizerName]:
    """Choose the optimizer by the kind of network.

    Args:
        facts: on the network.
        small: whether it is one of the built-in networks for small pictures.
        has_weights: whether it is trained already.
        pixels: in a batch; the cost of an update is the same for few of them as for many.
    """
    if facts.is_transformer:
        return Decision("adamw", "networks with layer normalisation and attention train badly with SGD")
    if not facts.has_norms and not has_weights:
        return Decision("adamw", "without normalisation, each weight wants a rate of its own")
    if small and not has_weights and pixels >= _WORTH_AN_ITERATION:
        return Decision("muon", "small convolutional networks learn in fewer epochs with it than with SGD")
    return Decision("sgd", "the usual choice for convolutional networks")


def peak_rate(
    name: OptimizerName, batch: int, facts: ModelFacts, *, has_weights: bool, num_steps: int
) -> Decision[float]:
    """Choose the peak learning rate by optimizer, batch, network and, for Muon, the steps of the run."""
    if name == "sgd" or name == "rmsprop":
        base = 0.1 if facts.has_norms else 0.01
        base = base / 10 if has_weights and facts.has_norms else base
        base = base / 10 if name == "rmsprop" else base
        kind = "a network with normalisation" if facts.has_norms else "a network without normalisation"
        start = ", trained already" if has_weights else ""
        return Decision(_round(base * batch / 128), f"{base:g} per 128 images for {kind}{start}")
    if name == "muon" and facts.has_norms and not has_weights:
        highest = _round(_highest_muon(facts.widest))
        rate = min(highest, max(_LOWEST_MUON, _MUON_SUM / num_steps))
        said = f"{_MUON_SUM:g} in all of {num_steps:,} steps, at most {highest:g} for layers of {facts.widest:,} inputs"
        return Decision(_round(rate), said)
    if name == "muon":
        return Decision(_round(0.01 * (batch / 256) ** 0.5), "0.01 at 256 images, by the square root of the batch")
    base = 1e-4 if has_weights else 1e-3
    return Decision(_round(base * (batch / 256) ** 0.5), f"{base:g} at 256 images, by the square root of the batch")


def _highest_muon(widest: int) -> float:
    """Return the highest rate for a network by its widest layer.

    Muon's step has the same root mean square in every layer, fresh weights a smaller one the wider the layer, so a step
    replaces more of a wide one. Both ends are what suited `cifar_resnet8` and `cnn`; the power between them joins these
    two, and no other width was tried. `benchmarks.muon_rate` tries both networks.
    """
    lowest, highest = _HIGHEST_MUON
    return min(highest, max(lowest, highest * (_NARROW / max(widest, 1)) ** 1.5))


def rest_rate(lr: float) -> Decision[float]:
    """Choose Muon's rate for what is not a matrix."""
    return Decision(_round(lr * 0.3), "0.3 of Muon's own")


def weight_decay(name: OptimizerName, *, has_weights: bool) -> Decision[float]:
    """Choose the weight decay by optimizer."""
    if name in ("adamw", "nadam", "muon"):
        return Decision(0.05, f"usual for the decoupled decay of {name}")
    value = 1e-4 if has_weights else 5e-4
    return Decision(value, "trained weights need little" if has_weights else "usual for networks from scratch")


def warmup_length(name: OptimizerName, *, has_weights: bool) -> Decision[str]:
    """Choose the length of the warmup."""
    if has_weights:
        return Decision("5%", "trained weights stand a steep start")
    if name == "muon":
        return Decision("20%", "Muon's rates are high, and longer warmups let it reach them")
    return Decision("10%", "fresh weights need a gentle start at a high rate")


def cycle_length() -> Decision[str]:
    """Choose the length of the warmup of a one-cycle."""
    return Decision("30%", "a one-cycle rises for 30 % of the run, as torch's does")


def precision(device: DeviceFacts, size: int) -> Decision[Candidate]:
    """Choose the number format by rule, where nothing is measured: by hardware and by the size of the pictures."""
    full = Candidate("fp32")
    if device.kind in ("cuda", "xpu"):
        if "bf16" in device.native:
            return Decision(Candidate("bf16"), f"{device.name} multiplies bf16 natively; its range is that of fp32")
        if "fp16" in device.native:
            return Decision(Candidate("fp16"), f"{device.name} has fp16 tensor cores, but no bf16 of its own")
        return Decision(full, f"{device.name} has no half-precision units")
    if device.kind == "cpu" and "bf16" in device.native:
        if size < 16:
            return Decision(full, f"at {size} pixels, converting costs more than bf16 saves")
        return Decision(Candidate("bf16"), "this CPU multiplies bf16 by instructions of its own")
    return Decision(full, f"{device.name} has no bf16 instructions" if device.kind == "cpu" else "the safe choice here")


def is_transformer(name: str, layer_names: set[str]) -> bool:
    """Tell by name and layers whether a network wants the optimizer of transformers."""
    plain = name.removeprefix("timm:")
    return plain.startswith(_TRANSFORMERS) or any("attention" in layer.lower() for layer in layer_names)


def _round(value: float) -> float:
    return float(f"{value:.3g}")
