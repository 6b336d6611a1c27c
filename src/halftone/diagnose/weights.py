"""Starting weights diagnosed before training: activations going up and gradients coming down, layer by layer."""

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import nn

from halftone.base.errors import RecipeError, closest, listed
from halftone.base.records import Record, decided
from halftone.base.seeds import stream_seed
from halftone.diagnose.weights_pass import watch_pass
from halftone.diagnose.weights_verdict import LayerHealth, WeightsVerdict, judge
from halftone.optim.loss import Criterion
from halftone.precision.config import PrecisionConfig
from halftone.run.plan.make import Prepared, make_plan
from halftone.run.plan.record import Plan
from halftone.run.plan.sample import Sample, sample_images
from halftone.run.recipe import Recipe
from halftone.run.start import load_start, with_rest
from halftone.weights.config import SCHEME_ALIASES, InitConfig, Scheme, scheme_named
from halftone.weights.initialise.unchanged import only_weights_change
from halftone.weights.match import LoadAccount

_MOST_IMAGES = 128


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
    inits = [recipe.init]
    for name in compare:
        other = _in_its_place(recipe.init, _scheme(name))
        inits += [other] if other not in inits else []
    start = _prepare(recipe, model)
    found = tuple(_diagnose(start, init) for init in inits)
    return DiagnosedWeights(start.prepared.plan, start.prepared.built.head, found, _remedy(start, found))


def _scheme(name: str) -> Scheme:
    """Return the scheme that a name means.

    Raises:
        RecipeError: there is none.
    """
    known: tuple[Scheme, ...] = get_args(Scheme)
    found: Scheme = scheme_named(name)
    if found not in known:
        raise RecipeError(
            f"compare = '{name}': a scheme is one of {listed(known, most=len(known))}",
            hint=closest(name, [*SCHEME_ALIASES, *known]) or "with commas between them: he,xavier,lsuv",
        )
    return found


def _in_its_place(own: InitConfig, scheme: Scheme, **changes: Any) -> InitConfig:
    """Return what begins with another scheme; the layers with one of their own keep it."""
    return InitConfig(
        **{"layers": own.layers, "zero_gamma": own.zero_gamma, "whiten": own.whiten, **changes}, scheme=scheme
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """Where all ways to begin set out from."""

    prepared: Prepared
    """With a network of its own, into which weights were loaded, if any are."""
    loaded: LoadAccount | None
    sample: Sample


def _prepare(recipe: Recipe, model: nn.Module | None) -> _Start:
    prepared = make_plan(recipe, model=model)
    if model is not None:  # it is the caller's
        prepared = _copied(prepared)
    settled = prepared.plan.settled
    count = min(_MOST_IMAGES, len(prepared.train.labels), decided(settled.batch_size))
    sample = sample_images(prepared.train, prepared.plan.input, prepared.device, data=settled.data, count=count)
    return _Start(prepared, load_start(prepared), sample)


def _copied(prepared: Prepared) -> Prepared:
    return replace(prepared, built=replace(prepared.built, module=copy.deepcopy(prepared.built.module)))


def _remedy(start: _Start, found: Sequence[WeightsDiagnosis]) -> WeightsDiagnosis | None:
    """Return the healthiest of the others compared or, where none is, the first healthy one of those worth a try."""
    if found[0].verdict.outcome == "healthy":
        return None
    healthy = [one for one in found[1:] if one.verdict.outcome == "healthy"]
    if healthy:
        return min(healthy, key=lambda one: one.verdict.distance)
    own = found[0].init
    activations = Counter(layer.activation for layer in found[0].layers if layer.activation)
    # Glorot and Bengio 2010, section 4.2.1, suppose a slope of one at zero; that of the sigmoid is a quarter
    sigmoid = [name for name, _ in activations.most_common(1)] == ["sigmoid"]
    kept: list[dict[str, Any]] = [{}, {"layers": {}}] if own.layers else [{}]
    first: tuple[Scheme, dict[str, Any]] = ("xavier-uniform", {"gain": 4.0}) if sigmoid else ("he-normal", {})
    for layers in kept:
        for scheme, gain in (first, ("lsuv", {})):
            tried = _diagnose(start, _in_its_place(own, scheme, **gain, **layers))
            if tried.verdict.outcome == "healthy":
                return tried
    return None


def _diagnose(start: _Start, init: InitConfig) -> WeightsDiagnosis:
    """Begin as `init` says, on a copy of the network, and look at one pass."""
    prepared = _copied(start.prepared)
    settled, built, sample = prepared.plan.settled.replaced(init=init), prepared.built, start.sample
    begun = with_rest(prepared.with_plan(prepared.plan.replaced(settled=settled)), start.loaded)
    model = built.module.to(prepared.device)
    criterion = Criterion(settled.loss, auxiliary=built.auxiliary)
    with only_weights_change(model, seed=stream_seed(settled.seed, "diagnose")):
        loss, layers = watch_pass(model.train(), sample, criterion, head=built.head)
    if not layers:
        raise RecipeError("the network has no linear layer and no convolution to look at")
    return WeightsDiagnosis(
        init=init,
        weights=begun.plan.weights,
        batch_size=len(sample.targets),
        loss=loss if math.isfinite(loss) else None,
        layers=layers,
        verdict=judge(layers, head=built.head),
    )
