"""Starting weights diagnosed before training: activations going up and gradients coming down, layer by layer."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.base.records import Record, decided
from halftone.diagnose.weights_verdict import LayerHealth, WeightsVerdict, judge
from halftone.optim.loss import Criterion
from halftone.precision.config import PrecisionConfig
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import Plan
from halftone.run.plan.sample import Sample, sample_images
from halftone.run.recipe import Recipe
from halftone.run.start import with_start
from halftone.weights.config import InitConfig
from halftone.weights.initialise.layers import weighted_layers
from halftone.weights.initialise.trace import Activation, trace
from halftone.weights.initialise.unchanged import only_weights_change

_MOST_IMAGES = 128
_SATURATED = 0.99
"""Of the way to its bounds, from which a tanh or sigmoid hardly moves any more."""
_BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}


class WeightsDiagnosis(Record):
    """What one way to begin does to activations and gradients."""

    init: InitConfig
    weights: str
    """What became of the starting weights, as in the plan."""
    batch_size: int
    loss: float | None
    """Of the batch; None if it is not finite."""
    layers: tuple[LayerHealth, ...]
    """Linear layers and convolutions in the order in which they are called."""
    verdict: WeightsVerdict

    @property
    def label(self) -> str:
        """What to call it beside others."""
        gain = "" if self.init.gain is None else f", gain {self.init.gain}"
        return f"{self.init.scheme}{gain}"


@dataclass(frozen=True, slots=True)
class DiagnosedWeights:
    """Ways to begin, compared, and what to do."""

    plan: Plan
    head: tuple[str, ...]
    """Names of the layers that name the classes, which the verdict leaves out."""
    found: tuple[WeightsDiagnosis, ...]
    """First the recipe's own."""
    remedy: WeightsDiagnosis | None
    """A way that is healthy where the recipe's own is not: one of those compared, or one that was tried besides."""


def diagnose_weights(
    recipe: Recipe, compare: Sequence[str] = (), *, model: nn.Module | None = None
) -> DiagnosedWeights:
    """Pass a batch of training images through the network and back, for each way to begin; nothing is trained.

    The network is in training mode and computes in fp32, and the images are not changed at random.

    Args:
        recipe: what would be trained.
        compare: further schemes in place of the recipe's `init.scheme`, each with its own deviation, fan and gain.
        model: a network passed in Python, used instead of the recipe's.

    Raises:
        HalftoneError: as for a plan.
    """
    recipe = recipe.replaced(precision=PrecisionConfig(mode="fp32"))
    own = recipe.init
    inits = [own]
    for name in compare:
        other = InitConfig.parse(
            {"scheme": name, "layers": own.layers, "zero_gamma": own.zero_gamma, "whiten": own.whiten}
        )
        inits += [other] if other not in inits else []
    prepared = make_plan(recipe, model=model)
    settled = prepared.plan.settled
    count = min(_MOST_IMAGES, len(prepared.train.labels), decided(settled.batch_size))
    workers = decided(settled.data.workers)
    sample = sample_images(prepared.train, prepared.plan.input, prepared.device, workers=workers, count=count)
    found = tuple(_diagnose(prepared, init, sample) for init in inits)
    return DiagnosedWeights(prepared.plan, prepared.built.head, found, _remedy(prepared, found, sample))


def _remedy(prepared: Prepared, found: Sequence[WeightsDiagnosis], sample: Sample) -> WeightsDiagnosis | None:
    """Return the healthiest of the others compared or, where none is, the first healthy one of those worth a try."""
    if found[0].verdict.outcome == "healthy":
        return None
    healthy = [one for one in found[1:] if one.verdict.outcome == "healthy"]
    if healthy:
        return min(healthy, key=lambda one: one.verdict.distance)
    own = found[0].init
    sigmoid = any(layer.activation == "sigmoid" for layer in found[0].layers)
    # Glorot and Bengio 2010, section 2.3: the slope of the sigmoid at zero is a quarter of tanh's
    worth: list[dict[str, Any]] = [{"scheme": "xavier-uniform", "gain": 4.0}] if sigmoid else [{"scheme": "he-normal"}]
    worth.append({"scheme": "lsuv"})
    for change in worth:
        init = InitConfig(layers=own.layers, zero_gamma=own.zero_gamma, whiten=own.whiten, **change)
        tried = _diagnose(prepared, init, sample)
        if tried.verdict.outcome == "healthy":
            return tried
    return None


def _diagnose(prepared: Prepared, init: InitConfig, sample: Sample) -> WeightsDiagnosis:
    """Begin as `init` says, on a copy of the network, and look at one pass."""
    settled = prepared.plan.settled.replaced(init=init)
    built = replace(prepared.built, module=copy.deepcopy(prepared.built.module))
    begun = with_start(replace(prepared, built=built, plan=prepared.plan.replaced(settled=settled)))
    model = built.module.to(prepared.device)
    watch = _Watch(model)
    criterion = Criterion(settled.loss, auxiliary=built.auxiliary)
    with only_weights_change(model):
        loss = watch.run(model.train(), sample, criterion)
    layers = watch.layers()
    if not layers:
        raise RecipeError("the network has no linear layer and no convolution to look at")
    return WeightsDiagnosis(
        init=init,
        weights=begun.plan.weights,
        batch_size=len(sample.targets),
        loss=loss if abs(loss) < float("inf") else None,
        layers=layers,
        verdict=judge(layers, head=built.head),
    )


class _Watch:
    """Takes the numbers of one pass forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = weighted_layers(model)
        self._values: dict[str, dict[str, Any]] = {}

    def run(self, model: nn.Module, sample: Sample, criterion: Criterion) -> float:
        """Pass a batch through the network and back; return its loss."""
        handles = [layer.register_forward_hook(self._output_hook(name)) for name, layer in self._layers.items()]
        try:
            found, output = trace(model, sample.images, self._activated)
            loss: Tensor = criterion(output, sample.targets)
            loss.backward()
        finally:
            for handle in handles:
                handle.remove()
        for name, values in self._values.items():
            activation = found.activations.get(name)
            values["activation"] = None if activation is None else activation.name
            gradient = self._layers[name].get_parameter("weight").grad
            values["weight_gradient"] = None if gradient is None else _finite(gradient.std(correction=0))
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    def layers(self) -> tuple[LayerHealth, ...]:
        """Return the numbers, in the order in which the layers were called."""
        return tuple(LayerHealth(name=name, **values) for name, values in self._values.items())

    def _output_hook(self, name: str) -> Any:
        def look(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            if name in self._values:  # called again with the same weights: the first call stands for it
                return
            values = self._values[name] = {}
            with torch.no_grad(), torch._C.DisableTorchFunction():
                values["mean"], values["std"] = _finite(output.mean()), _finite(output.std(correction=0))
            if output.requires_grad:
                output.register_hook(lambda gradient: values.update(gradient=_finite(gradient.norm())))

        return look

    @torch.no_grad()
    def _activated(self, name: str, activation: Activation, result: Tensor) -> None:
        values, numbers = self._values[name], result.detach()
        values["activation_std"] = _finite(numbers.std(correction=0))
        units = numbers.transpose(0, 1) if isinstance(self._layers[name], nn.modules.conv._ConvNd) else numbers
        flat = units.flatten(1) if units is not numbers else numbers.flatten(0, -2).T
        values["dead"] = float((flat == 0).all(1).float().mean())
        if activation.name in _BOUNDS:
            low, high = _BOUNDS[activation.name]
            margin = (1 - _SATURATED) * (high - low) / 2
            values["saturated"] = float(((numbers > high - margin) | (numbers < low + margin)).float().mean())


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return number if abs(number) < float("inf") else None
