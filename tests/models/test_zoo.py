"""The networks of torchvision and timm: built, fitted to classes and channels, tried."""

import time
import warnings
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import regnet

from halftone.base.errors import RecipeError
from halftone.models.build import build_model, native_input
from halftone.models.built import Built
from halftone.models.head import set_dropout
from halftone.models.zoo import TIMM, build_zoo, is_zoo, timm_names, torchvision_names, zoo_native

LIGHT = (
    *("alexnet", "convnext_tiny", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v3_small", "regnet_x_400mf"),
    *("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_16"),
)
TIMM_FAMILIES = (
    *("resnet10t", "efficientnetv2_rw_t", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "convnext_atto"),
    *(
        "crossvit_9_240",
        "levit_128s",
        "levit_conv_384_s8",
        "mobilenetv3_small_050",
        "mobilenetv4_conv_small",
        "nfnet_f0",
    ),
    *("repvgg_a0", "repvit_m0_9", "regnetx_002", "mixer_s32_224", "pit_ti_distilled_224", "poolformer_s12"),
    *("efficientformer_l1", "efficientvim_m1_dist", "fastvit_t8", "ghostnet_050", "hrnet_w18_small", "inception_v4"),
    *("dla46_c", "dpn48b", "cspresnet50", "coatnet_pico_rw_224", "beit_base_patch16_224", "cait_xxs24_224"),
    *("edgenext_xx_small", "mobileone_s0", "mobilevit_xxs", "rexnet_100", "selecsls42", "tinynet_e", "tresnet_m"),
    *("volo_d1_224", "xcit_nano_12_p16_224", "vgg11", "vovnet39a", "xception41", "swin_tiny_patch4_window7_224"),
    *("mambaout_femto", "hardcorenas_a", "gcvit_xxtiny", "maxvit_nano_rw_256", "densenet121", "eva02_tiny_patch14_224"),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the libraries warn of in their own constructors is not ours to fix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build without memory for weights; torchvision's RegNets reckon with real numbers on the way."""
    reckon = regnet.BlockParams.from_init_params.__func__

    def on_cpu(cls: type, *args: object, **options: object) -> object:
        with torch.device("cpu"):
            return reckon(cls, *args, **options)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", classmethod(on_cpu))
    with torch.device("meta"):
        yield


def build(name: str, classes: int = 7, *, channels: int = 3, size: int | None = None) -> Built:
    native = native_input(name)
    assert native is not None
    return build_model(name, num_classes=classes, channels=channels, size=size or native.size, dropout=None)


def changed(first: nn.Module, second: nn.Module) -> set[str]:
    one, other = first.state_dict(), second.state_dict()
    assert one.keys() == other.keys()
    return {name for name in one if one[name].shape != other[name].shape}


def below(names: tuple[str, ...], module: nn.Module) -> set[str]:
    return {key for key in module.state_dict() if key.startswith(tuple(f"{name}." for name in names))}


def check_ends(name: str) -> None:
    """The head is exactly what changes with the classes; the stem holds all that changes with the channels."""
    size = zoo_native(name).size
    built = build(name, 7)
    other = build_zoo(name, num_classes=13, channels=3, size=size, dropout=None)
    assert changed(built.module, other.module) == below(built.head, built.module), name
    gray = build_zoo(name, num_classes=7, channels=1, size=size, dropout=None)
    pixels = changed(built.module, gray.module)
    if name.removeprefix(TIMM) != "tresnet_m":  # it rearranges pixels into 48 channels first
        assert pixels
        assert pixels <= {f"{stem}.weight" for stem in built.stem}, name
        assert pixels <= {f"{stem}.weight" for stem in gray.stem}, name


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", LIGHT)
def test_ends_of_torchvision(name: str) -> None:
    check_ends(name)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", TIMM_FAMILIES[:9])
def test_ends_of_timm(name: str) -> None:
    check_ends(TIMM + name)


@pytest.mark.slow
@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", sorted({*torchvision_names()} - {*LIGHT}))
def test_ends_of_all_other_torchvision(name: str) -> None:
    check_ends(name)


@pytest.mark.slow
@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", [name for name in TIMM_FAMILIES if name not in TIMM_FAMILIES[:9]])
def test_ends_of_more_timm(name: str) -> None:
    check_ends(TIMM + name)


@pytest.mark.slow
@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", torchvision_names())
def test_all_of_torchvision_survive_their_smallest_size(name: str) -> None:
    native = zoo_native(name)
    build(name, size=native.size if native.fixed else native.smallest)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("name", ["alexnet", "vgg11", "densenet121", "squeezenet1_1", "resnet18", "convnext_tiny"])
def test_the_smallest_size_survives(name: str) -> None:
    build(name, size=zoo_native(name).smallest)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("classes", [64, 128, 512, 768, 1024, 4096])
@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "squeezenet1_1", "vgg11_bn"])
def test_inner_layers_with_as_many_outputs_as_classes_are_no_heads(name: str, classes: int) -> None:
    size = zoo_native(name).size
    heads = [build_zoo(name, num_classes=n, channels=3, size=size, dropout=None).head for n in (7, classes)]
    assert heads[0] == heads[1]


def test_every_classifier_of_torchvision_has_a_native_input() -> None:
    names = torchvision_names()
    assert len(names) == len(set(names)) >= 80
    for name in names:
        native = native_input(name)
        assert native is not None
        assert 32 <= native.smallest <= native.size <= 600
        assert 0.5 < native.crop <= 1
        assert native.mean is not None
        assert native.std is not None
        assert len(native.mean) == len(native.std) == 3


def test_every_classifier_of_timm_has_a_native_input() -> None:
    names = timm_names()
    assert len(names) > 1000
    for name in names:
        native = native_input(name)
        assert native is not None
        assert native.smallest <= native.size <= 4096, name
        assert 0 < native.crop <= 1


def test_names_are_looked_up_quickly() -> None:
    start = time.perf_counter()
    for _ in range(100):
        native_input("resnet18")
        native_input("timm:resnet10t")
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("resnet18", True),
        ("timm:resnet18", True),
        ("timm:resnet18.a1_in1k", True),
        ("timm:resnet18.nobody", False),
        ("timm:nobody", False),
        ("timm:", False),
        ("resnet10t", False),
        ("fcn_resnet50", False),  # segments, does not classify
        ("fasterrcnn_resnet50_fpn", False),
        ("quantized_resnet18", False),
        ("", False),
    ],
)
def test_known_names(name: str, known: bool) -> None:
    assert is_zoo(name) == known


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet5O", "'resnet50'"),
        ("resnet-18", "'resnet18'"),
        ("EfficientNet-B0", "'efficientnet_b0'"),
        ("resnet20", "'cifar_resnet20'"),
        ("CNN", "'cnn'"),
        ("vit_b16", "'vit_b_16'"),
        ("timm:resnt10t", "'timm:resnet10t'"),
        ("convnextv2_tiny", "'timm:convnextv2_tiny'"),
        ("timm:vit_tiny", "'timm:vit_tiny_patch16_224'"),
        ("timm:resnet18.a9_in1k", "'timm:resnet18.a"),
        ("net.py", "net.py:Class"),
        ("qqqqqq", "timm:NAME"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(RecipeError, match="is not known") as caught:
        native_input(name)
    assert hint in caught.value.hint
    with pytest.raises(RecipeError, match="is not known"):
        build_model(name, num_classes=3, channels=3, size=32, dropout=None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("resnet18", 32), ("squeezenet1_1", 64), ("mobilenet_v3_small", 32), ("shufflenet_v2_x0_5", 32)),
        *(("timm:test_vit", 160), ("timm:test_resnet", 48), ("timm:test_efficientnet", 64), ("timm:test_convnext", 64)),
    ],
)
def test_light_ones_learn(name: str, size: int, channels: int) -> None:
    built = build(name, 5, channels=channels, size=size)
    logits = built.module.train()(torch.rand(2, channels, size, size))
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    heads = [built.module.get_submodule(name) for name in built.head]
    assert all(parameter.grad.abs().sum() > 0 for head in heads for parameter in head.parameters())


@pytest.mark.parametrize(("name", "weight", "num_outputs"), [("googlenet", 0.3, 3), ("inception_v3", 0.4, 2)])
def test_auxiliary_outputs_are_there_in_training_only(name: str, weight: float, num_outputs: int) -> None:
    built = build(name, 4)
    size = zoo_native(name).size
    assert built.auxiliary == weight
    outputs = built.module.train()(torch.rand(2, 3, size, size))
    assert [tuple(output.shape) for output in outputs] == [(2, 4)] * num_outputs
    with torch.no_grad():
        assert built.module.eval()(torch.rand(1, 3, size, size)).shape == (1, 4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_published_weights_answer_as_in_torchvision(name: str) -> None:
    """There the network itself converts from the usual normalisation when it has published weights."""
    torch.manual_seed(0)
    with torch.random.fork_rng():
        theirs = torchvision.models.get_model(
            name, weights=None, num_classes=6, init_weights=False, transform_input=True
        )
    built = build(name, 6)
    built.module.load_state_dict(theirs.state_dict())
    native = zoo_native(name)
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    pixels = torch.rand(2, 3, native.size, native.size)

    def normalised(mean: object, std: object) -> Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    set_dropout(theirs, 0.0)
    set_dropout(built.module, 0.0)
    with torch.no_grad():  # in training mode, where fresh networks do not let the signal fade away
        expected = theirs.train()(normalised(preset.mean, preset.std))
        answers = built.module.train()(normalised(native.mean, native.std))
    for answer, wanted in zip(answers, expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-3, atol=1e-3)
        assert (wanted[0] - wanted[1]).abs().max() > 0.05


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_gray_is_colour_with_equal_channels(name: str) -> None:
    torch.manual_seed(0)
    colour = build(name, 3, size=64)
    torch.manual_seed(0)
    gray = build(name, 3, channels=1, size=64)
    gray.module.load_state_dict(
        {key: value for key, value in colour.module.state_dict().items() if key != f"{colour.stem[0]}.weight"},
        strict=False,
    )
    pixels = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = colour.module.eval()(pixels.expand(-1, 3, -1, -1))
        torch.testing.assert_close(gray.module.eval()(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg11", "squeezenet1_1", "mobilenet_v3_small"])
@pytest.mark.usefixtures("meta")
def test_dropout_reaches_every_layer(name: str) -> None:
    built = build_model(name, num_classes=3, channels=3, size=64, dropout=0.25)
    assert {layer.p for layer in built.module.modules() if isinstance(layer, nn.Dropout)} == {0.25}


def test_dropout_of_timm() -> None:
    built = build_model("timm:test_efficientnet", num_classes=3, channels=3, size=64, dropout=0.25)
    assert built.module.drop_rate == 0.25


@pytest.mark.usefixtures("meta")
def test_dropout_where_there_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"dropout = 0.25.*resnet18 has no dropout"):
        build_model("resnet18", num_classes=3, channels=3, size=64, dropout=0.25)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(
    ("name", "size"),
    [("inception_v3", 224), ("maxvit_t", 256), ("vit_b_16", 225), ("alexnet", 32), ("vgg11", 16), ("timm:vgg11", 16)],
)
def test_sizes_that_do_not_work_are_refused(name: str, size: int) -> None:
    with pytest.raises(RecipeError, match=f"{size}"):
        build(name, size=size)


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(("name", "size"), [("vit_b_16", 64), ("resnet18", 96), ("timm:vit_tiny_patch16_224", 96)])
def test_other_sizes_are_taken(name: str, size: int) -> None:
    build(name, size=size)
