"""Which types a step computes in, beside what torch says of each mode."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halftone.precision.config import PrecisionConfig
from halftone.precision.types_seen import LayerTypes, TypesSeen
from halftone.precision.verbs import Precision


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 2, 4, 4), torch.arange(8) % 3


def step(seen: TypesSeen, precision: Precision, model: nn.Module) -> None:
    images, labels = data()
    with seen.attached():
        with precision.forward(), seen:
            loss = F.cross_entropy(model(images).float(), labels)
        precision.backward(loss)
    precision.step()


def table(model: nn.Module | None = None, **settings: object) -> dict[str, LayerTypes]:
    model = model or network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    seen, precision = TypesSeen(model), Precision(PrecisionConfig.parse(settings), model, optimizer)
    step(seen, precision, model)
    return {row.name: row for row in seen.table(optimizer.state)}


def column(rows: dict[str, LayerTypes], name: str) -> list[str]:
    return [getattr(row, name) for row in rows.values()]


def test_a_step_in_fp32_is_fp32_everywhere() -> None:
    rows = table(mode="fp32")
    assert list(rows) == ["0", "1", "2", "3", "4"]
    assert column(rows, "kind") == ["convolution", "norm", "activation", "flatten", "linear"]
    with_weights = ["fp32", "fp32", "", "", "fp32"]
    for name in ("weights", "master", "weight_gradient", "state"):
        assert column(rows, name) == with_weights
    assert column(rows, "compute") == ["fp32", "fp32", "fp32", "", "fp32"]
    assert column(rows, "output") == column(rows, "gradient") == ["fp32"] * 5


def test_a_step_in_bf16_keeps_its_weights_and_their_gradients_in_fp32() -> None:
    rows = table(mode="bf16")
    with_weights = ["fp32", "fp32", "", "", "fp32"]
    for name in ("weights", "master", "weight_gradient", "state"):
        assert column(rows, name) == with_weights
    assert column(rows, "compute") == ["bf16", "bf16+fp32", "bf16", "", "bf16"]
    assert column(rows, "output") == column(rows, "gradient") == ["bf16"] * 5


def test_a_step_in_bf16_true_has_half_weights_with_masters() -> None:
    rows = table(mode="bf16-true")
    assert column(rows, "weights") == ["bf16", "fp32", "", "", "bf16"]
    assert column(rows, "weight_gradient") == ["bf16", "fp32", "", "", "bf16"]
    assert column(rows, "master") == column(rows, "state") == ["fp32", "fp32", "", "", "fp32"]
    assert column(rows, "compute") == ["bf16", "bf16+fp32", "bf16", "", "bf16"]
    assert column(rows, "output") == ["bf16"] * 5


def test_without_masters_the_optimizer_holds_halves_too() -> None:
    rows = table(mode="bf16-true", master=False)
    for name in ("weights", "master", "weight_gradient", "state"):
        assert column(rows, name) == ["bf16", "fp32", "", "", "bf16"]


def test_layers_of_their_own_format_show() -> None:
    rows = table(mode="bf16", layers="norm=fp32,4=fp16")
    assert column(rows, "compute") == ["bf16", "fp32", "fp32", "", "fp16"]
    assert column(rows, "output") == ["bf16", "fp32", "fp32", "fp32", "fp16"]
    assert column(rows, "gradient") == ["bf16", "fp32", "fp32", "fp32", "fp16"]
    assert column(rows, "weight_gradient") == ["fp32", "fp32", "", "", "fp32"]


def test_frozen_and_unused_layers() -> None:
    model = network()
    model[0].requires_grad_(False)
    model.add_module("5", nn.Identity())
    rows = table(model, mode="bf16")
    assert (rows["0"].weight_gradient, rows["0"].gradient, rows["0"].state) == ("", "", "")
    assert (rows["0"].weights, rows["0"].master) == ("fp32", "fp32")

    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.idle = nn.Linear(32, 3), nn.Linear(2, 2), nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images.flatten(1))

    rows = table(Partly(), mode="bf16")
    assert list(rows) == ["used", "unused"]
    assert (rows["unused"].weights, rows["unused"].master, rows["unused"].compute) == ("", "fp32", "")


def test_an_operation_belongs_to_the_innermost_layer() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.inner = nn.Parameter(torch.ones(3)), nn.Linear(32, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images.flatten(1)) * self.gain

    rows = table(nn.Sequential(Scaled()), mode="bf16")
    assert rows["0.inner"].compute == "bf16"
    assert rows["0"].compute == "bf16+fp32"  # its own multiplication alone
    assert rows["0"].output == "fp32"


def test_nothing_is_left_on_the_network() -> None:
    model = network()
    table(model, mode="bf16")
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


def test_watching_types_changes_no_bit() -> None:
    ends = []
    for watching in (True, False):
        model = network()
        precision = Precision("bf16-true", model, torch.optim.SGD(model.parameters(), lr=0.1))
        torch.manual_seed(2)
        if watching:
            step(TypesSeen(model), precision, model)
        else:
            images, labels = data()
            with precision.forward():
                loss = F.cross_entropy(model(images).float(), labels)
            precision.backward(loss)
            precision.step()
        ends.append(model.state_dict().values())
    assert all(map(torch.equal, *ends))
