"""Smaller pictures are made on the GPU as on the CPU."""

import numpy as np
import pytest
import torch

from halftone.data.progressive import make_smaller
from pictures import noise, slope

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_they_are_resized_and_cut_as_on_the_cpu(dtype: torch.dtype) -> None:
    """uint8, which torch does not resize there, within one step of rounding."""
    pixels = np.stack([slope(40, 40), noise(40, 40)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype)
    found = make_smaller(images.cuda(), 24, "resize")
    assert found.dtype == dtype
    difference = (found.cpu().float() - make_smaller(images, 24, "resize").float()).abs().max()
    assert difference <= (1 if dtype == torch.uint8 else 1e-2)
    assert torch.equal(make_smaller(images.cuda(), 24, "crop").cpu(), make_smaller(images, 24, "crop"))
