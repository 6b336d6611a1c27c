"""How far an update moves the weights, as a share of their norm: what tells a violent step from a timid one."""

import torch
from torch import Tensor


class UpdateRatio:
    """Measures one update of the weights that decay, norms and biases left out: these may start from zero."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimizer whose updates are measured."""
        self._weights = [weight for group in optimizer.param_groups if group["decays"] for weight in group["params"]]
        self._before: list[Tensor] = []

    @torch.no_grad()
    def remember(self) -> None:
        """Keep the weights as they are before an update."""
        self._before = [weight.detach().clone() for weight in self._weights if weight.requires_grad]

    @torch.no_grad()
    def measured(self) -> Tensor:
        """Return the norm of what changed since then over the norm of the weights before it, [], unread."""
        now = [weight.detach() for weight in self._weights if weight.requires_grad]
        before, self._before = self._before, []
        whole = _norm(before)
        torch._foreach_sub_(before, now)
        return _norm(before) / whole.clamp(min=1e-12)


def _norm(tensors: list[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
