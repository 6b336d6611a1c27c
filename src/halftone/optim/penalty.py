"""The L1 penalty, added to the gradients."""

import torch
from torch import Tensor


class L1Penalty:
    """Pulls weights towards zero by a constant amount, which makes many of them small (Tibshirani 1996)."""

    def __init__(self, optimizer: torch.optim.Optimizer, strength: float) -> None:
        """Apply to the groups that decay."""
        self._strength = strength
        self._weights: list[Tensor] = [
            parameter for group in optimizer.param_groups if group["decays"] for parameter in group["params"]
        ]

    @torch.no_grad()
    def add_gradients(self, scale: Tensor | None) -> None:
        """Add strength x sign(weight) to the gradients, times the loss scale, [], where there is one.

        To be called once per step, after the last backward pass.
        """
        pairs = [(weight, weight.grad) for weight in self._weights if weight.grad is not None]
        if not pairs:
            return
        signs = torch._foreach_sign([weight for weight, _ in pairs])
        if scale is not None:
            torch._foreach_mul_(signs, scale)
        torch._foreach_add_([gradient for _, gradient in pairs], signs, alpha=self._strength)
