"""Every precision on a CUDA device, at full size; what auto finds there."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from halftone.base.errors import ResourceError
from halftone.diagnose.precision import types_of_step
from halftone.precision.config import Mode, PrecisionConfig
from halftone.precision.verbs import Precision
from halftone.run.plan.make import make_plan
from halftone.system.device import device_facts
from samples import wish, write_npz

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def native() -> frozenset[str]:
    return device_facts(torch.device("cuda")).native


def losses(model: nn.Module, mode: Mode, *, steps: int = 12) -> list[float]:
    """Train on one batch, which any network can learn by heart."""
    torch.manual_seed(0)
    images = torch.randn(16, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    targets = torch.arange(16, device="cuda") % 10
    model = model.cuda().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, fused=True)
    precision = Precision(PrecisionConfig(mode=mode, scale=1024.0), model, optimizer)
    found: list[Tensor] = []
    for _ in range(steps):
        with precision.forward():
            loss = nn.functional.cross_entropy(model(images), targets)
        precision.backward(loss)
        precision.step()
        found.append(loss.detach())
    return torch.stack(found).tolist()


@pytest.mark.parametrize("mode", ["fp32", "tf32", "bf16", "fp16", "bf16-true", "fp16-true"])
def test_every_mode_trains_resnet50_at_224(mode: Mode) -> None:
    if mode.removesuffix("-true") not in native():
        pytest.skip(f"this device has no {mode}")
    found = losses(torchvision.models.resnet50(num_classes=10), mode)
    assert found[-1] < 0.7 * found[0]


def test_fp8_trains_a_vision_transformer() -> None:
    pytest.importorskip("torchao")
    model = timm.create_model("vit_small_patch16_224", num_classes=16)
    if "fp8" not in native():
        with pytest.raises(ResourceError, match="fp8"):
            losses(model, "fp8")
        return
    found = losses(model, "fp8")
    assert found[-1] < 0.7 * found[0]


def test_auto_measures_and_takes_no_emulated_format(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz", size=32)
    recipe = wish(path, tmp_path, device="cuda", precision={"mode": "auto", "probe_seconds": 4})
    plan = make_plan(recipe).plan
    assert len(plan.evidence) >= len({"fp32", "tf32", "bf16", "fp16"} & native())
    mode = plan.settled.precision.mode
    assert mode.removesuffix("-true") in native()


def test_the_types_of_a_live_step(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tiny.npz", size=32)
    _, rows = types_of_step(wish(path, tmp_path, device="cuda", precision="bf16-true"))
    convolutions = [row for row in rows if row.kind == "convolution"]
    assert {row.compute for row in convolutions} == {"bf16"}
    assert {row.master for row in convolutions} == {row.state for row in convolutions} == {"fp32"}
