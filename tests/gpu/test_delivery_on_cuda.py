"""Batches that are copied while the device computes."""

import numpy as np
import pytest
import torch

from halftone.base.inputs import InputSpec
from halftone.data.config import DataConfig
from halftone.data.open import open_source
from halftone.data.streaming import StreamingFeed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SPEC = InputSpec(size=64, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_batches_are_those_of_the_cpu_however_busy_the_device_is() -> None:
    """Each is read late, when later ones have been copied and the memory of earlier ones has been used again."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 64, 64, 3), dtype=np.uint8)
    labels = np.arange(256) % 2
    source = open_source(DataConfig(source="given"), (list(pixels), labels.tolist())).train
    order = np.random.default_rng(1).permutation(256)
    feed = StreamingFeed(source, SPEC, torch.device("cuda"), workers=2)
    busy = torch.randn(4096, 4096, device="cuda")
    sums, firsts = [], []
    for batch in feed.batches(order, 16):
        for _ in range(20):
            busy = (busy @ busy).clamp_(-1, 1)
        sums.append(batch.images.double().sum((1, 2, 3)) + batch.labels)
        firsts.append(batch.images[:, :, 0, 0].clone())
        del batch
    assert torch.isfinite(busy).all()
    assert torch.cat(sums).cpu().tolist() == (pixels[order].sum((1, 2, 3), dtype=np.float64) + labels[order]).tolist()
    assert np.array_equal(torch.cat(firsts).cpu().numpy(), pixels[order][:, 0, 0])
