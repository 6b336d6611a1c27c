"""Half weights with fp32 masters (Micikevicius et al. 2018, section 3.1).

An update is often thousands of times smaller than its weight. bf16 has 8 bits for a number, so what is less than
1/512 of a weight is rounded away when it is added to it. The optimizer therefore updates weights in fp32, and the
network computes with copies of them in half.

Here the network's own parameters are the masters. Whoever looks at it between steps, the optimizer, the average, a
file, sees fp32; only within a forward pass do the half copies stand in their place.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from halftone.precision.policy import is_norm


def halved_places(model: nn.Module, keep: Collection[nn.Module]) -> Iterator[tuple[dict[str, nn.Parameter], str]]:
    """Yield where the parameters stand that are computed in half: all in fp32 but those of norms and of `keep`.

    Norms stay in fp32: their weights are few, and their sums run over whole batches.
    """
    kept = {id(layer) for layer in keep}
    for layer in model.modules():
        if id(layer) in kept or is_norm(layer):
            continue
        for name, parameter in layer._parameters.items():
            if parameter is not None and parameter.dtype == torch.float32:
                yield layer._parameters, name  # type: ignore[misc]


class HalfWeights:
    """Copies in half of a network's fp32 parameters, their masters."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, *, keep: Collection[nn.Module] = ()) -> None:
        """Copy the parameters, except those of norms and of the layers in `keep`."""
        places = list(halved_places(model, keep))
        self.masters: list[Tensor] = []
        """The parameters of the network."""
        self.halves: list[Tensor] = []
        """The copies, in the order of `masters`."""
        copies: dict[int, nn.Parameter] = {}
        for owner, name in places:
            master = owner[name]
            if id(master) not in copies:  # a weight may stand in several layers
                copies[id(master)] = nn.Parameter(master.detach().to(dtype), requires_grad=master.requires_grad)
                self.masters.append(master)
                self.halves.append(copies[id(master)])
        self._swaps = [(owner, name, owner[name], copies[id(owner[name])]) for owner, name in places]
        self._fresh = False

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters to the copies; once per step, which ends with `forget`."""
        if not self._fresh and self.halves:
            torch._foreach_copy_(self.halves, self.masters)
            for half, master in zip(self.halves, self.masters, strict=True):
                half.requires_grad_(master.requires_grad)
            self._fresh = True

    def forget(self) -> None:
        """Expect that the masters change."""
        self._fresh = False

    def drop_gradients(self) -> None:
        """Clear the gradients of the copies, of a backward pass that failed before they were handed over."""
        for half in self.halves:
            half.grad = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the network compute with the copies for as long as the context lasts."""
        for owner, name, _, half in self._swaps:
            owner[name] = half
        try:
            yield
        finally:
            for owner, name, master, _ in self._swaps:
                owner[name] = master

    @torch.no_grad()
    def hand_over_gradients(self) -> None:
        """Add the gradients of the copies to those of the masters, in fp32."""
        for half, master in zip(self.halves, self.masters, strict=True):
            if half.grad is not None:
                gradient = half.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                half.grad = None


@torch.no_grad()
def halve(model: nn.Module, dtype: torch.dtype, *, keep: Collection[nn.Module] = ()) -> None:
    """Turn the parameters themselves into half, without masters: small updates are lost."""
    for owner, name in list(halved_places(model, keep)):
        owner[name].data = owner[name].data.to(dtype)


@torch.no_grad()
def lost_share(before: list[Tensor], after: list[Tensor], gradients: list[Tensor]) -> float:
    """Return the share of weights that did not move although they had a gradient, over lists of equal shapes."""
    wanted = [gradient != 0 for gradient in gradients]
    num_wanted = sum(int(mask.sum()) for mask in wanted)
    num_lost = sum(int((mask & (old == new)).sum()) for mask, old, new in zip(wanted, before, after, strict=True))
    return num_lost / num_wanted if num_wanted else 0.0
