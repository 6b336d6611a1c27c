"""Memory that runs out on a GPU, and what a plan thinks of it there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from halftone.base.tables import read_table
from halftone.models.build import build_model
from halftone.precision.config import PrecisionConfig
from halftone.precision.trial import Trial
from halftone.verbs import train
from samples import wish, write_npz

pytestmark = pytest.mark.gpu


def test_D9_a_batch_that_does_not_fit_a_small_share_of_the_device_is_divided(tmp_path: Path) -> None:
    """Of the device, the process may have 2 GB; resnet18 at 64 pixels wants more for 2,048 images."""
    data = write_npz(tmp_path / "set.npz", train=4096, test=512, size=64)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2 * 2**30 / total)
    try:
        settings = {"batch_size": 2048, "accumulate": 1, "epochs": 1, "lr": 0.1, "device": "cuda", "model": "resnet18"}
        run = train(wish(data, tmp_path, **settings))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    (row,) = read_table(run.path / "results.csv")
    assert int(row["num_parts"]) > 1
    assert "out of memory" in read_table(run.path / "notices.csv")[0]["text"]


@pytest.mark.parametrize("mode", ["fp32", "bf16"])
def test_what_two_small_steps_say_of_a_large_one(mode: str) -> None:
    """Within a fifth, which is what a plan leaves free."""
    device = torch.device("cuda")
    model = build_model("resnet18", num_classes=10, channels=3, size=224, dropout=None).module.to(device).train()
    images, targets = torch.randn(64, 3, 224, 224, device=device), torch.zeros(64, dtype=torch.long, device=device)
    config = PrecisionConfig.model_validate({"mode": mode})
    step = Trial(model, images[:8], targets[:8], nn.CrossEntropyLoss()).memory(config, few=4)
    large = Trial(model, images, targets, nn.CrossEntropyLoss())
    large.seconds(config)
    taken = large._peak(config)
    assert taken == pytest.approx(step.fixed + 64 * step.per_image, rel=0.2)
