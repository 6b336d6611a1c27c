"""The type that the loss computes in."""

import pytest
import torch

from halftone.optim.config import LossConfig
from halftone.optim.loss import Criterion


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 1.5])])
def test_the_loss_computes_in_the_type_it_is_given(weights: torch.Tensor | None) -> None:
    logits, targets = torch.randn(8, 3).bfloat16(), torch.arange(8) % 3
    criterion = Criterion(LossConfig(), class_weights=weights, dtype=torch.bfloat16)
    usual = Criterion(LossConfig(), class_weights=weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert criterion(logits, targets).dtype == torch.bfloat16
        assert usual(logits, targets).dtype == torch.float32
        assert torch.allclose(criterion(logits, targets).float(), usual(logits, targets), rtol=0.02)
