"""Muon (Jordan et al. 2024): momentum whose update is made orthogonal. For matrices and, flattened, for filters.

torch has Muon for matrices only. Here a filter [out, in, height, width] is the matrix [out, in x height x width],
and what is neither (norms, biases, single channels) is updated by torch's AdamW or SGD in the same optimizer, so that
there is one object to step, schedule and save. The step's size is matched to AdamW's (Liu et al. 2025, equation 4),
which makes rates and decays carry over, unless the size of Jordan et al. is asked for. On matrices it equals
`torch.optim.Muon`, whose `adjust_lr_fn` is then "match_rms_adamw" or "original".
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from halftone.system.device import cpu_capabilities, cpu_formats

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration (Jordan et al. 2024)."""
_NUM_ITERATIONS = 5
_RMS = 0.2
"""The root mean square of a typical AdamW update (Liu et al. 2025)."""


def orthogonalise(matrix: Tensor, iterations: int = _NUM_ITERATIONS) -> Tensor:
    """Replace the singular values of a matrix [rows, columns] by values near one, by Newton-Schulz iteration.

    A matrix in float32 is iterated in bfloat16, which the method tolerates, unless the processor has to emulate it.
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16() if matrix.dtype == torch.float32 and _multiplies_bf16(matrix.device) else matrix
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def _multiplies_bf16(device: torch.device) -> bool:
    return device.type != "cpu" or "bf16" in cpu_formats(cpu_capabilities())


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for groups with `orthogonal`, AdamW or SGD for the others."""

    found_inf: Tensor | None
    """As in torch's fused optimizers: where this is there during `step`, [], and not zero, nothing changes."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float, betas: tuple[float, float]) -> None:
        """Take groups with `params`, `lr`, `weight_decay`, `momentum` and `orthogonal`.

        Those that are orthogonal may have `iterations`, `update_size` and `normalise`, the others `rest` and `fused`;
        see `OptimizerConfig`, and torch for the last.
        """
        usual = {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum, "betas": betas}
        own = {"iterations": _NUM_ITERATIONS, "update_size": "rms", "normalise": False}
        super().__init__(groups, {**usual, **own, "orthogonal": True, "rest": "adamw", "fused": None})

    @property
    def takes_found_inf(self) -> bool:
        """Whether `found_inf` is heeded: AdamW and SGD of torch do so only where they are fused."""
        return all(group["orthogonal"] or group["fused"] for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["orthogonal"]:
                self._step_orthogonal(parameters, group)
            elif group["rest"] == "sgd":
                self._step_sgd(parameters, group)
            else:
                self._step_adamw(parameters, group)

    def _step_orthogonal(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr, found_inf = group["lr"], getattr(self, "found_inf", None)
        good = None if found_inf is None else found_inf == 0
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"]
            before = None if good is None else (parameter.clone(), momentum.clone())
            parameter.mul_(1 - lr * group["weight_decay"])
            if group["normalise"]:
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp(min=1e-7))
            momentum.lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(momentum, group["momentum"])  # Nesterov
            matrix = ahead.reshape(len(ahead), -1)
            size = lr * _scale(matrix, group["update_size"])
            _subtract(parameter, orthogonalise(matrix, group["iterations"]).reshape(parameter.shape), size)
            if good is not None and before is not None:
                torch.where(good, parameter, before[0], out=parameter)
                torch.where(good, momentum, before[1], out=momentum)

    def _step_sgd(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                # torch would fill it in its first step, a skipped one, too; minus zero changes no bit it is added to
                self.state[parameter] = {"momentum": torch.full_like(parameter, -0.0)}
        sgd(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [self.state[parameter]["momentum"] for parameter in parameters],
            fused=group["fused"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["momentum"] > 0,
            maximize=False,
            found_inf=getattr(self, "found_inf", None),
        )

    def _step_adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device if group["fused"] else "cpu"),
                    "mean": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
            found_inf=getattr(self, "found_inf", None),
        )


def _scale(matrix: Tensor, update_size: str) -> float:
    """Return the factor from the rate to an update of a matrix [rows, columns]; see `OptimizerConfig.update_size`."""
    if update_size == "spectral":
        return max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    return _RMS * max(matrix.shape) ** 0.5


def _subtract(parameter: Tensor, update: Tensor, size: float | Tensor) -> None:
    """Subtract size times an update, rounding once; the size may be a number or lie on the device, []."""
    if not isinstance(size, Tensor):
        parameter.add_(update, alpha=-size)
        return
    wide = torch.promote_types(parameter.dtype, torch.float32)  # in half, the size itself would be rounded
    parameter.copy_(torch.addcmul(parameter.to(wide), update.to(wide), -size.to(wide)))
