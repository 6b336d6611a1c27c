"""What can be asked of the data and of augmentation."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from halftone.base.lengths import Span, written_spans
from halftone.base.pairs import parse_span_pairs
from halftone.base.records import Auto, Record
from halftone.data.reading import TIMEOUT

Share = Annotated[float, Field(ge=0, le=1)]
_SMALLEST, _LARGEST = 4, 4096
"""Pixels a side of the network's input."""

Border = Literal["reflect", "edge"]
Smaller = Literal["resize", "crop"]
"""How a picture becomes one of fewer pixels: all of it, or its middle."""
Channels = Annotated[Literal[1, 3], BeforeValidator(lambda value: int(value) if value in ("1", "3") else value)]
"""As text it comes from the command line."""


def _numbers(value: Any) -> Any:
    if value == "auto":
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in (parts if isinstance(parts, list | tuple) else (parts,)))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) not in (1, 3) or not all(0 <= number <= 1 for number in numbers):
        raise ValueError("it must be auto, or one number from 0 to 1 for all channels, or three: 0.485,0.456,0.406")
    return numbers


def _count(value: Any) -> Any:
    return int(value) if value in ("1", "2", "6") else value


def _divisors(value: Any) -> Any:
    numbers = _numbers(value)
    if numbers != "auto" and 0 in numbers:
        raise ValueError("pixels are divided by it, so it must not be 0")
    return numbers


def _sizes(value: Any) -> Any:
    """Read lengths by size, as text or as a mapping."""
    value = parse_span_pairs(value, example="128=6ep", form="SIZE=LENGTH")
    if not isinstance(value, dict):
        raise ValueError("it must be sizes with the length until which they hold, such as 128=6ep,160=12ep")
    for size in value:
        if not str(size).isdecimal() or not _SMALLEST <= int(size) <= _LARGEST:
            raise ValueError(f"the size {size} must be a number of pixels from {_SMALLEST} to {_LARGEST}")
    return {int(size): length for size, length in value.items()}


Views = Annotated[Literal[1, 2, 6], BeforeValidator(_count)]
SizesUntil = Annotated[
    dict[int, Span],
    BeforeValidator(_sizes),
    PlainSerializer(written_spans),
    WithJsonSchema({"type": ["string", "object"]}),
]
Mean = Annotated[tuple[float, ...] | Auto, BeforeValidator(_numbers)]
Deviation = Annotated[tuple[float, ...] | Auto, BeforeValidator(_divisors)]


class DataConfig(Record):
    """Which images, how they are split, and how they reach the model."""

    shorthand = "source"

    source: str = "given"
    """`digits`, a folder, a .csv or .npz file, a torchvision name such as cifar10, or hf:NAME."""
    root: Path | None = None
    """Where a torchvision data set lies or is downloaded to, or the folder that a .csv's paths start from."""
    download: bool = False
    """Allow torchvision to download the data set."""
    validation: Annotated[float, Field(gt=0, lt=1)] | Auto = "auto"
    """The share of the training images held out. auto: the set's own validation or test part, otherwise 0.2."""
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    """Another number holds out other images; the same number always the same ones."""
    size: Annotated[int, Field(ge=_SMALLEST, le=_LARGEST)] | Auto = "auto"
    """Height and width of the network's input in pixels."""
    progressive: SizesUntil = Field(default_factory=dict)
    """Smaller pictures early in training, each size with the time until which it holds: `128=6ep,160=12ep` begins with
    128 pixels; evaluation always sees `size`."""
    progressive_by: Smaller = "resize"
    """Make them smaller by resizing, or `crop` the middle out."""
    channels: Channels | Auto = "auto"
    """1 for gray, 3 for colour."""
    fit: Literal["crop", "squash"] = "crop"
    """How a picture that is not square becomes one: cut the middle out, or ignore its shape."""
    mean: Mean = "auto"
    """What is subtracted from pixels in [0, 1]: one number for all channels, or three. auto: what the weights were
    trained with, or what is measured on the training images."""
    std: Deviation = "auto"
    """What they are then divided by; likewise."""
    feed: Literal["resident", "streaming"] | Auto = "auto"
    """Keep the whole set decoded on the device, or decode while training."""
    workers: Annotated[int, Field(ge=0, le=256)] | Auto = "auto"
    """Decoding threads of the streaming feed; 0 decodes between the steps."""
    timeout: float = Field(default=TIMEOUT, ge=0)
    """Seconds that one image may take to be read and decoded before the run ends and names it; 0 waits for ever."""
    cache: Literal["off", "ram", "disk"] | Auto = "auto"
    """Keep decoded training images of the streaming feed for the epochs that follow, in memory or on disk."""
    on_error: Literal["skip", "fail"] = "skip"
    """`skip` and count images that cannot be read, or check all of them first and `fail` at one."""
    max_bad: Share = 0.01
    """The share of unreadable images at which training stops."""
    max_megapixels: float = Field(default=100.0, gt=0)
    """Pictures with more pixels are refused before they are decoded."""
    views: Views = 1
    """How often an image is looked at in validation, evaluation and prediction; the mean of the logits counts. 2: it
    and its mirror image; 6: both also shifted by a pixel down and right, and up and left. It takes 2 or 6 times as
    long."""
    balanced: bool = False
    """Draw every class equally often in training, with repetition."""


def _area_range(value: Any) -> Any:
    shares = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(share) for share in shares)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high <= 1:
        raise ValueError("a range of area shares is two numbers such as 0.35,1 with 0 < low <= high <= 1")
    return low, high


AreaRange = Annotated[tuple[float, float], BeforeValidator(_area_range)]


class AugmentConfig(Record):
    """Random changes to training images, drawn anew for each image and epoch, applied on the device."""

    shorthand = "policy"

    policy: Literal["auto", "none", "light", "strong"] = "auto"
    """What settings left at auto become: `none` nothing, `auto` by image size, `light` no colours, `strong` more."""
    flip: Share | Literal["alternate"] | Auto = "auto"
    """Probability of mirroring left to right; `alternate` mirrors a random half of the images in the first epoch, the
    other half in the next, and so on."""
    vertical_flip: Share = 0.0
    """Probability of mirroring top to bottom."""
    pad_crop: Annotated[int, Field(ge=0, le=256)] | Auto = "auto"
    """Shift by up to this many pixels."""
    border: Border | Auto = "auto"
    """What enters when a picture is shifted: its mirror image (`reflect`) or its border pixels again (`edge`)."""
    resized_crop: AreaRange | Literal["none"] | Auto = "auto"
    """Cut out a random rectangle with a share of the area in this range and resize it: `0.35,1`."""
    rotate: Annotated[float, Field(ge=0, le=180)] | Auto = "auto"
    """Rotate by up to this many degrees either way."""
    brightness: Share | Auto = "auto"
    """Change the light by a factor of up to 1 plus or minus this."""
    contrast: Share | Auto = "auto"
    """Change the contrast by a factor of up to 1 plus or minus this."""
    saturation: Share | Auto = "auto"
    """Change the colourfulness by a factor of up to 1 plus or minus this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] | Auto = "auto"
    """Turn the colours by up to this share of the colour circle either way."""
    random_ops: Literal["none", "trivial", "rand"] | Auto = "auto"
    """One random operation of random strength (TrivialAugment) or several of a fixed strength (RandAugment)."""
    rand_num_ops: int = Field(default=2, ge=1, le=8)
    """Operations per image in RandAugment."""
    rand_magnitude: Share = 0.3
    """Strength of each operation in RandAugment, as a share of its largest."""
    erase: Share | Auto = "auto"
    """Probability of blanking a random rectangle."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """Blend pairs of images and labels by a share from Beta(a, a); 0 is off."""
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """Paste a rectangle of one image into another, its area from Beta(a, a); 0 is off."""
