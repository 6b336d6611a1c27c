"""A network is tried before it is trained."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.models.trial import try_out


def network(*, channels: int = 3, classes: int = 4, extra: nn.Module | None = None) -> nn.Sequential:
    layers = [
        nn.Conv2d(channels, 6, 3),
        nn.BatchNorm2d(6),
        extra or nn.Identity(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(6, classes))


def attempt(module: nn.Module, *, channels: int = 3, size: int = 8) -> None:
    try_out(module, name="mine", num_classes=4, channels=channels, size=size)


class NeedsContent(nn.Module):
    """Asks for numbers, which shapes alone do not have."""

    def forward(self, images: Tensor) -> Tensor:
        assert np.isfinite(images.detach().numpy()).all()
        return images * float(images.max().item() + 1)


class Several(nn.Module):
    """Gives several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(images), images


class Answers(nn.Module):
    """Gives what is no answer."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> object:
        return self.answer


@pytest.mark.parametrize("module", [network(), network(extra=NeedsContent()), Several()])
def test_what_fits_passes_and_stays_as_it_was(module: nn.Module) -> None:
    module.train()
    next(module.children()).eval()
    modes = [layer.training for layer in module.modules()]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    stream = torch.get_rng_state()
    attempt(module)
    assert torch.equal(torch.get_rng_state(), stream)
    assert [layer.training for layer in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in module.state_dict().values())


@pytest.mark.parametrize(
    ("module", "channels", "size", "words"),
    [
        (network(channels=1), 3, 8, "fails on pictures of 8 pixels with 3 channel"),
        (network(), 1, 8, "fails on pictures of 8 pixels with 1 channel"),
        (network(), 3, 2, "fails on pictures of 2 pixels"),
        (network(classes=9), 3, 8, r"gives \[2, 9\] for 2 pictures.*\[2, 4\]"),
        (nn.Conv2d(3, 4, 3), 3, 8, r"gives \[2, 4, 6, 6\]"),
        (Answers({"logits": 1}), 3, 8, "gives a dict"),
        (Answers(None), 3, 8, "gives a NoneType"),
        (Answers(()), 3, 8, "gives a tuple"),
    ],
)
def test_what_does_not_fit_is_said(module: nn.Module, channels: int, size: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        attempt(module, channels=channels, size=size)
    assert "\n" not in str(caught.value)
    assert module.training


def test_lazy_layers_find_their_size() -> None:
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    attempt(module)
    assert isinstance(module[1], nn.Linear)
    assert module[1].in_features == 3 * 8 * 8
