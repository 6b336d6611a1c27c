"""Deep networks without normalisation, by their names."""

import pytest
import torch
from torch import nn

from halftone.base.errors import RecipeError
from halftone.models.build import build_model, native_input


@pytest.mark.parametrize("name", ["plain2", "plain4_tanh", "plain9_sigmoid", "plain13_gelu", "plain30", "plain200"])
def test_the_name_says_the_depth_and_the_activation(name: str) -> None:
    module = build_model(name, num_classes=7, channels=3, size=16, dropout=None).module
    weighted = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    digits, _, activation = name.removeprefix("plain").partition("_")
    assert len(weighted) == int(digits)
    kinds = {type(layer).__name__.lower() for layer in module.modules() if not any(layer.children())}
    assert kinds == {"conv2d", "linear", "dropout", "adaptiveavgpool2d", activation or "relu"}
    assert not any(layer.bias.any() for layer in weighted if layer.bias is not None)
    assert native_input(name) is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 8, 11, 12, 28, 32, 97])
def test_pictures_of_any_size(size: int, channels: int) -> None:
    built = build_model("plain5", num_classes=7, channels=channels, size=size, dropout=0.5)
    assert built.module(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert (built.head, built.stem) == (("head",), ("layers.0.0",))


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("plain", "from 2 to 200", "plain30"),
        ("plain1", "from 2 to 200", "plain2"),
        ("plain030", "from 2 to 200", "plain30"),
        ("plain201", "from 2 to 200", "plain200"),
        ("plain" + "9" * 5000, "from 2 to 200", "plain30"),
        ("plain20_sigmod", "relu, tanh, sigmoid, gelu", "did you mean 'sigmoid'?"),
        ("plain20_x", "relu, tanh, sigmoid, gelu", "plain20 has ReLU"),
    ],
)
def test_networks_that_do_not_exist_are_refused(name: str, words: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        build_model(name, num_classes=2, channels=3, size=16, dropout=None)
    assert hint in caught.value.hint
