"""What loads where, with an account of it; or nothing at all."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import ModelFileError
from halftone.models.build import build_model
from halftone.models.zoo import zoo_native
from halftone.weights.files import load_weights
from halftone.weights.match import first_not_finite, load_matching, without_prefix


def network(*, classes: int = 4, channels: int = 3, width: int = 6) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, width, 3),
            norm=nn.BatchNorm2d(width),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(width, classes),
        )
    )


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def load(module: nn.Module, tensors: Any, **options: Any) -> Any:
    return load_matching(module, tensors, head=("head",), stem=("conv",), **options)


def test_everything_fits() -> None:
    source, target = copied(network()), network()
    account = load(target, source)
    assert account.loaded == tuple(source)
    assert (account.reshaped, account.fresh, account.missing, account.unused) == ((), (), (), ())
    assert str(account) == f"{len(source)} tensors loaded"
    assert all(torch.equal(tensor, source[name]) for name, tensor in target.state_dict().items())


def test_other_classes_leave_the_head_fresh() -> None:
    source, target = copied(network(classes=9)), network(classes=4)
    before = copied(target)
    account = load(target, source)
    assert account.fresh == ("head.weight", "head.bias")
    assert account.missing == account.unused == ()
    assert "fresh head (head.weight, head.bias)" in str(account)
    assert torch.equal(target.head.weight, before["head.weight"])
    assert torch.equal(target.conv.weight, source["conv.weight"])


def test_a_head_is_loaded_whole_or_not_at_all() -> None:
    source = copied(network())
    source["head.weight"] = torch.zeros(4, 99)
    target = network()
    before = copied(target)
    assert load(target, source).fresh == ("head.weight", "head.bias")
    assert torch.equal(target.head.bias, before["head.bias"])
    del source["head.weight"]
    assert load(target, source).fresh == ("head.weight", "head.bias")


def test_one_head_of_two_may_fit() -> None:
    target = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 4), "head_dist": nn.Linear(2, 4)})
    source = copied(target)
    source["head_dist.weight"], source["head_dist.bias"] = torch.zeros(9, 2), torch.zeros(9)
    account = load_matching(target, source, head=("head", "head_dist"))
    assert account.fresh == ("head_dist.weight", "head_dist.bias")
    assert "head.weight" in account.loaded


@pytest.mark.parametrize(("given", "wanted"), [(3, 1), (1, 3)])
def test_other_channels_fold_the_stem(given: int, wanted: int) -> None:
    torch.manual_seed(0)
    source, target = network(channels=given), network(channels=wanted)
    account = load(target, copied(source))
    assert account.reshaped == ("conv.weight",)
    assert "conv.weight" in account.loaded
    assert "conv.weight converted to another number of channels" in str(account)
    gray = torch.rand(2, 1, 8, 8)
    answers = [net.eval()(gray.expand(-1, channels, -1, -1)) for net, channels in ((source, given), (target, wanted))]
    torch.testing.assert_close(*answers)


def test_only_the_stem_is_folded() -> None:
    target = network(channels=1)
    with pytest.raises(ModelFileError, match=r"conv.weight, \[6, 1, 3, 3\] float32 in the network, is \[6, 3, 3, 3\]"):
        load_matching(target, copied(network(channels=3)), head=("head",))


def test_several_stems_are_folded() -> None:
    target = nn.ModuleDict({"a": nn.Conv2d(1, 2, 3), "b": nn.Conv2d(1, 2, 1), "fc": nn.Linear(2, 2)})
    source = copied(nn.ModuleDict({"a": nn.Conv2d(3, 2, 3), "b": nn.Conv2d(3, 2, 1), "fc": nn.Linear(2, 2)}))
    assert load_matching(target, source, stem=("a", "b")).reshaped == ("a.weight", "b.weight")


def missing(tensors: dict[str, Tensor]) -> None:
    del tensors["norm.running_var"]


def misshapen(tensors: dict[str, Tensor]) -> None:
    tensors["norm.running_var"] = torch.ones(7)


def quantised(tensors: dict[str, Tensor]) -> None:
    tensors["norm.running_var"] = torch.ones(6, dtype=torch.int8)


@pytest.mark.parametrize("fault", [missing, misshapen, quantised])
def test_D24_what_does_not_fit_changes_nothing(fault: Any) -> None:
    source, target = copied(network()), network()
    fault(source)
    before = copied(target)
    with pytest.raises(
        ModelFileError, match=r"weights of here do not fit: 1 of 9 tensors; norm.running_var, \[6\]"
    ) as caught:
        load(target, source, origin="here")
    assert "--weights.partial" in caught.value.hint
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    account = load(target, source, partial=True)
    assert account.missing == ("norm.running_var",)
    assert "1 missing (norm.running_var)" in str(account)
    assert torch.equal(target.conv.weight, source["conv.weight"])
    assert torch.equal(target.norm.running_var, before["norm.running_var"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_D24_weights_that_are_not_finite_change_nothing(value: float) -> None:
    source, target = copied(network()), network()
    source["norm.weight"][3] = value
    before = copied(target)
    with pytest.raises(ModelFileError, match=r"the weights of the file are not finite: norm.weight"):
        load(target, source, partial=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_D24_other_precision_is_converted(dtype: torch.dtype) -> None:
    source, target = (
        {name: t.to(dtype) if t.is_floating_point() else t for name, t in copied(network()).items()},
        network(),
    )
    load(target, source)
    assert target.conv.weight.dtype == torch.float32
    assert torch.equal(target.conv.weight, source["conv.weight"].float())


def test_counters_of_batches_need_not_be_there() -> None:
    source = copied(network())
    del source["norm.num_batches_tracked"]
    assert load(network(), source).missing == ()


def test_what_has_no_place_is_counted() -> None:
    account = load(network(), {**copied(network()), "teacher.a": torch.ones(1), "teacher.b": torch.ones(1)})
    assert account.unused == ("teacher.a", "teacher.b")
    assert "2 of the file unused (teacher.a, teacher.b)" in str(account)


@pytest.mark.parametrize("tensors", [{}, {"nothing": torch.ones(2)}])
def test_D21_nothing_that_fits_is_an_error_even_in_part(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFileError, match="no tensor of the file fits the network"):
        load(network(), tensors, partial=True)


def test_D21_another_network_is_refused() -> None:
    one = build_model("cifar_resnet8", num_classes=4, channels=3, size=32, dropout=None)
    other = build_model("cnn", num_classes=4, channels=3, size=32, dropout=None)
    with pytest.raises(ModelFileError, match="do not fit"):
        load_matching(one.module, copied(other.module), head=one.head, stem=one.stem)


def test_the_layout_in_memory_does_not_matter() -> None:
    source = copied(network())
    target = network().to(memory_format=torch.channels_last)
    load(target, {name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for name, t in source.items()})
    assert target.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(target.conv.weight, source["conv.weight"])


def test_tied_weights_stay_tied() -> None:
    target = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    target["b"].weight = target["a"].weight
    load_matching(target, {name: torch.full_like(t, 2) for name, t in target.state_dict().items()})
    assert target["b"].weight is target["a"].weight
    assert (target["b"].weight == 2).all()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.module."])
def test_prefixes_of_wrappers_are_removed(prefix: str) -> None:
    source = copied(network())
    account = load(network(), {prefix + name: tensor for name, tensor in source.items()})
    assert len(account.loaded) == len(source)
    assert account.unused == ()


def test_a_layer_that_is_called_like_a_prefix_keeps_its_name() -> None:
    target = nn.ModuleDict({"model": network()})
    source = copied(target)
    for given in (source, {f"module.{name}": tensor for name, tensor in source.items()}):
        assert len(load_matching(target, given).loaded) == len(source)


def test_averaged_weights_of_torch_load() -> None:
    """Its AveragedModel adds a counter beside the prefix."""
    averaged = torch.optim.swa_utils.AveragedModel(network())
    account = load(network(), averaged.state_dict())
    assert account.unused == ("n_averaged",)


def test_names_are_only_cut_where_that_helps() -> None:
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert set(without_prefix(tensors, {"a", "b"})) == {"a", "b"}
    assert set(without_prefix(tensors, {"module.a", "b"})) == {"module.a", "b"}
    assert set(without_prefix(tensors, set())) == {"module.a", "b"}
    assert without_prefix({}, {"a"}) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_the_first_tensor_that_is_not_finite(dtype: torch.dtype, value: float) -> None:
    tensors = {"count": torch.tensor(3), "none": torch.ones(0), "good": torch.ones(3).to(dtype)}
    assert first_not_finite(tensors) is None
    assert first_not_finite({}) is None
    assert first_not_finite({"count": torch.tensor(3)}) is None
    bad = torch.tensor([1.0, value]).to(dtype)
    assert first_not_finite({**tensors, "bad": bad, "worse": bad}) == "bad"


def test_squeezenet_of_imagenet_starts_ten_classes(shared_data: Path) -> None:
    stored = load_weights(shared_data / "weights" / "squeezenet1_1_in1k.safetensors")
    assert stored.header == {}
    assert sum(tensor.numel() for tensor in stored.tensors.values()) == 1_235_496
    for channels in (1, 3):
        built = build_model("squeezenet1_1", num_classes=10, channels=channels, size=224, dropout=None)
        account = load_matching(built.module, stored.tensors, head=built.head, stem=built.stem)
        assert account.fresh == ("classifier.1.weight", "classifier.1.bias")
        assert account.missing == account.unused == ()
        assert account.reshaped == (("features.0.weight",) if channels == 1 else ())
        assert len(account.loaded) == len(stored.tensors) - 2
        assert torch.equal(
            built.module.state_dict()["features.12.squeeze.bias"], stored.tensors["features.12.squeeze.bias"]
        )
    assert zoo_native("squeezenet1_1").mean == (0.485, 0.456, 0.406)


def test_squeezenet_of_imagenet_keeps_its_thousand_classes(shared_data: Path) -> None:
    stored = load_weights(shared_data / "weights" / "squeezenet1_1_in1k.safetensors")
    built = build_model("squeezenet1_1", num_classes=1000, channels=3, size=224, dropout=None)
    account = load_matching(built.module, stored.tensors, head=built.head, stem=built.stem)
    assert account.fresh == ()
    assert str(account) == f"{len(stored.tensors)} tensors loaded"


def test_a_prefix_of_the_owner_is_removed_if_it_is_the_only_one() -> None:
    source = copied(network())
    given = {f"encoder.cnn.{name}": tensor for name, tensor in source.items()}
    loaded = load(network(), {**given, "loss.w": torch.ones(1)})
    assert len(loaded.loaded) == len(source)
    assert loaded.unused == ("loss.w",)
    twice = {f"{owner}.{name}": tensor for owner in ("student", "teacher") for name, tensor in source.items()}
    with pytest.raises(ModelFileError, match="do not fit"):
        load(network(), twice)


def test_two_networks_under_prefixes_of_wrappers_are_not_mixed() -> None:
    source = copied(network())
    twice = {f"{owner}.{name}": tensor for owner in ("model", "net") for name, tensor in source.items()}
    with pytest.raises(ModelFileError, match="do not fit"):
        load(network(), twice)
