"""Every decision of the plan, with its reason."""

import pytest

from halftone.data.config import AugmentConfig
from halftone.data.survey import Survey
from halftone.models.built import Native
from halftone.optim.config import OptimizerName
from halftone.precision.trial import Candidate
from halftone.run.plan import decide
from halftone.run.plan.record import ModelFacts
from halftone.system.device import DeviceFacts, cuda_formats


def seen(side: int, *, uniform: bool = True, gray: float = 0.0) -> Survey:
    return Survey(100, 100, side, (side, side) if uniform else None, gray, ())


PLAIN = ModelFacts(num_parameters=1000, has_norms=True, depthwise_share=0.0, is_transformer=False, widest=576)
NORMLESS = PLAIN.replaced(has_norms=False)
TRANSFORMER = PLAIN.replaced(is_transformer=True)
CPU_BF16 = DeviceFacts("cpu", "a CPU", frozenset({"fp32", "bf16"}))
CPU_OLD = DeviceFacts("cpu", "an old CPU", frozenset({"fp32"}))


@pytest.mark.parametrize(("side", "name"), [(8, "cnn"), (32, "cnn"), (64, "cnn"), (65, "resnet18"), (300, "resnet18")])
def test_model(side: int, name: str) -> None:
    decision = decide.model_name(seen(side), pretrained=False)
    assert decision.value == name
    assert f"{side} pixels" in decision.reason
    assert decide.model_name(seen(side), pretrained=True).value == "resnet18"  # a small one has no weights


@pytest.mark.parametrize(
    ("survey", "native", "weights", "size", "words"),
    [
        (seen(28), None, False, 28, "own size"),
        (seen(200, uniform=False), None, False, 128, "differ in size"),
        (seen(40, uniform=False), None, False, 40, "differ in size"),
        (seen(500), None, False, 256, "500 pixels"),
        (seen(2), None, False, 4, "2 pixels"),
        (Survey(9, 9, 30, (30, 50), 0.0, ()), None, False, 30, "not square"),
        (seen(500), Native(224), False, 224, "designed for"),
        (seen(100, uniform=False), Native(224), False, 128, "enough for pictures of 100 pixels"),
        (seen(8), Native(224), False, 32, "enough for pictures of 8 pixels"),
        (seen(8), Native(224, smallest=64), False, 64, "enough"),
        (seen(100), Native(224), True, 224, "weights were trained on"),
        (seen(100), Native(299, fixed=True), False, 299, "only size"),
    ],
)
def test_size(survey: Survey, native: Native | None, weights: bool, size: int, words: str) -> None:
    decision = decide.input_size(survey, native, has_weights=weights)
    assert decision.value == size
    assert words in decision.reason


@pytest.mark.parametrize(
    ("gray", "weights", "channels"), [(1.0, False, 1), (1.0, True, 3), (0.5, False, 3), (0, False, 3)]
)
def test_channels(gray: float, weights: bool, channels: int) -> None:
    assert decide.channels(seen(32, gray=gray), has_weights=weights).value == channels


@pytest.mark.parametrize(
    ("survey", "in_memory", "size", "megabytes", "feed"),
    [
        (seen(32), True, 32, 10, "resident"),
        (seen(32), True, 32, 300, "streaming"),
        (seen(32), False, 32, 10, "resident"),
        (seen(32, uniform=False), False, 32, 10, "streaming"),
        (seen(224), False, 224, 10, "resident"),
        (seen(300), False, 224, 10, "streaming"),
    ],
)
def test_feed(survey: Survey, in_memory: bool, size: int, megabytes: int, feed: str) -> None:
    decision = decide.feed(survey, in_memory=in_memory, size=size, num_bytes=megabytes << 20, free_bytes=1000 << 20)
    assert decision.value == feed
    assert decision.reason


def test_augmentation_by_size_and_meaning() -> None:
    small, reason = decide.augmentation(AugmentConfig(), size=32, small=True, source="cifar10", gray=False)
    assert (small.flip, small.pad_crop, small.resized_crop) == (0.5, 2, "none")
    assert "small pictures" in reason
    signs, reason = decide.augmentation(AugmentConfig(), size=28, small=True, source="mnist", gray=True)
    assert signs.flip == 0
    assert "no mirroring" in reason
    photos, _ = decide.augmentation(AugmentConfig(), size=224, small=False, source="flowers", gray=False)
    assert (photos.flip, photos.resized_crop, photos.brightness) == (0.5, (0.35, 1.0), 0.2)
    strong, _ = decide.augmentation(AugmentConfig(policy="strong"), size=224, small=False, source="x", gray=False)
    assert (strong.random_ops, strong.erase) == ("trivial", 0.25)
    hub, _ = decide.augmentation(AugmentConfig(), size=28, small=True, source="hf:ylecun/mnist", gray=True)
    assert hub.flip == 0
    none, _ = decide.augmentation(AugmentConfig(policy="none"), size=224, small=False, source="x", gray=False)
    assert (none.flip, none.resized_crop, none.rotate) == (0, "none", 0)


def test_augmentation_keeps_what_was_asked() -> None:
    settled, _ = decide.augmentation(AugmentConfig(flip=0.1, rotate=30), size=32, small=True, source="x", gray=False)
    assert (settled.flip, settled.rotate) == (0.1, 30)
    assert "auto" not in settled.model_dump(exclude={"policy"}).values()


@pytest.mark.parametrize(
    ("images", "size", "device", "batch"),
    [
        (50_000, 32, "cpu", 256),
        (1_438, 8, "cpu", 32),
        (100, 32, "cpu", 16),
        (9, 32, "cpu", 9),
        (5_000, 224, "cpu", 32),
        (5_000, 224, "cuda", 128),
        (5_000, 600, "cpu", 8),
        (50_000, 480, "cuda", 32),
    ],
)
def test_batch_size(images: int, size: int, device: str, batch: int) -> None:
    assert decide.batch_size(images, size=size, device=device).value == batch


def test_epochs() -> None:
    assert decide.epochs(1_400, size=32, has_weights=False).value == 40
    assert decide.epochs(1_400, size=8, has_weights=False).value == 24
    assert decide.epochs(50_000, size=8, has_weights=False).value == 12
    assert decide.epochs(1_000_000, size=32, has_weights=False).value == 10
    assert decide.epochs(1_000, size=8, has_weights=True).value == 10


@pytest.mark.parametrize(
    ("device", "size", "chosen", "words"),
    [
        (CPU_BF16, 32, "bf16", "instructions of its own"),
        (CPU_BF16, 8, "fp32", "converting"),
        (CPU_OLD, 32, "fp32", "no bf16 instructions"),  # F5
        (DeviceFacts("cuda", "H100", cuda_formats(9, 0)), 224, "bf16", "natively"),
        (DeviceFacts("cuda", "T4", cuda_formats(7, 5)), 224, "fp16", "no bf16 of its own"),  # F3
        (DeviceFacts("cuda", "P100", cuda_formats(6, 0)), 224, "fp32", "no half-precision"),
        (DeviceFacts("mps", "M3", frozenset({"fp32", "fp16"})), 224, "fp32", "safe"),
    ],
)
def test_precision(device: DeviceFacts, size: int, chosen: str, words: str) -> None:
    decision = decide.precision(device, size)
    assert isinstance(decision.value, Candidate)
    assert str(decision.value) == chosen
    assert words in decision.reason


def test_optimizer_and_rate() -> None:
    many, few = 256 * 32 * 32, 32 * 8 * 8
    assert decide.optimizer_name(PLAIN, small=False, has_weights=False, pixels=many).value == "sgd"
    assert decide.optimizer_name(PLAIN, small=True, has_weights=True, pixels=many).value == "sgd"
    assert decide.optimizer_name(PLAIN, small=True, has_weights=False, pixels=many).value == "muon"
    assert decide.optimizer_name(PLAIN, small=True, has_weights=False, pixels=few).value == "sgd"
    assert decide.optimizer_name(NORMLESS, small=False, has_weights=False, pixels=many).value == "adamw"
    assert decide.optimizer_name(NORMLESS, small=False, has_weights=True, pixels=many).value == "sgd"
    assert decide.optimizer_name(TRANSFORMER, small=False, has_weights=False, pixels=many).value == "adamw"


def test_rates_follow_batch_network_and_weights_and_that_of_muon_the_length_of_the_run() -> None:
    def rate(
        name: OptimizerName, batch: int, facts: ModelFacts = PLAIN, *, trained: bool = False, steps: int = 1000
    ) -> float:
        return decide.peak_rate(name, batch, facts, has_weights=trained, num_steps=steps).value

    assert rate("sgd", 256) == pytest.approx(2 * rate("sgd", 128))
    assert rate("sgd", 128, NORMLESS) < rate("sgd", 128)
    assert rate("sgd", 128, trained=True) < rate("sgd", 128)
    assert rate("adamw", 1024) == pytest.approx(2e-3)
    assert [rate("muon", 256, steps=steps) for steps in (100, 1000, 2000, 10**6)] == [0.16, 0.08, 0.04, 0.01]
    widths = (100, 1152, 2304, 9216)
    assert [rate("muon", 256, PLAIN.replaced(widest=width), steps=100) for width in widths] == [
        0.16,
        0.0566,
        0.02,
        0.02,
    ]
    assert rate("muon", 256, PLAIN.replaced(widest=2304), steps=8000) == 0.01
    assert rate("muon", 256, NORMLESS) == rate("muon", 256, trained=True) == 0.01  # nothing hides the norm of a weight


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("vit_b_16", set(), True),
        ("timm:vit_tiny_patch16_224", set(), True),
        ("resnet18", {"Conv2d"}, False),
        ("mine.py:Net", {"MultiheadAttention"}, True),
    ],
)
def test_transformers_are_known(name: str, layers: set[str], expected: bool) -> None:
    assert decide.is_transformer(name, layers) is expected
