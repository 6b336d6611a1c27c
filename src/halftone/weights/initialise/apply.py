"""Giving a network its starting weights, with an account of it."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from halftone.base.errors import RecipeError
from halftone.base.seeds import stream_seed
from halftone.weights.config import TAKES_GAIN, InitConfig, Scheme
from halftone.weights.initialise.gains import gain_of
from halftone.weights.initialise.layers import settle_schemes, weighted_layers
from halftone.weights.initialise.lsuv import scale_to_unit_variance
from halftone.weights.initialise.schemes import fill
from halftone.weights.initialise.trace import Trace, trace
from halftone.weights.initialise.unchanged import only_weights_change
from halftone.weights.initialise.whitening import filters_for, whiten


@dataclass(frozen=True, slots=True)
class InitAccount:
    """What became of each layer."""

    schemes: Mapping[str, Scheme]
    """Of the linear layers and convolutions that are fresh, by name; `default` was left as the network brings it."""
    gains: Mapping[str, float]
    """Of the layers whose gain was taken from the activation that follows them."""
    zeroed: tuple[str, ...] = ()
    """Norms whose weight is zero, each the last of a residual branch."""
    whitened: str = ""
    """The convolution that whitens, if one does."""
    num_whitening: int = 0
    """How many of its filters whiten."""
    unscaled: tuple[str, ...] = ()
    """Layers that lsuv could not scale."""

    def __str__(self) -> str:
        counts = Counter(self.schemes.values())
        drawn = [f"{scheme} in {_layers(count)}" for scheme, count in counts.items() if scheme != "default"]
        if drawn and counts["default"]:
            drawn.append(f"as the network brings them in {_layers(counts['default'])}")
        parts = [", ".join(drawn)] if drawn else []
        if self.whitened:
            parts.append(f"{self.num_whitening} filters of {self.whitened} whiten")
        if self.zeroed:
            parts.append(f"{len(self.zeroed)} residual branches begin at zero")
        if self.unscaled:
            parts.append(f"{_layers(len(self.unscaled))} could not be scaled")
        return "; ".join(parts)


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def initialise(
    model: nn.Module,
    scheme: str = "default",
    *,
    images: Tensor | None = None,
    seed: int = 0,
    **settings: Any,
) -> InitAccount:
    """Give a network starting weights: `initialise(model, "he", layers={"fc": "zeros"})`.

    The first and the last of its layers with weights count as the stem and the head.

    Args:
        model: any network; its linear layers and convolutions are drawn anew.
        scheme: see `InitConfig.scheme`.
        images: [batch, channels, height, width] as the network takes them; for lsuv, whiten, zero_gamma and gain auto.
        seed: a layer's weights depend on this, on its name and on nothing else.
        **settings: the other settings of `InitConfig`: layers, std, fan, gain, zero_gamma, whiten.

    Raises:
        RecipeError: a setting is wrong, a pattern matches nothing, or images are needed; nothing was changed.
    """
    names = list(weighted_layers(model))
    config = InitConfig.parse({"scheme": scheme, **settings})
    return apply_init(model, config, images=images, seed=seed, head=names[-1:], stem=names[:1])


def needs_images(config: InitConfig) -> bool:
    """Tell whether a network has to be run on images for its starting weights."""
    lsuv = "lsuv" in (config.scheme, *config.layers.values())
    return lsuv or config.whiten or config.zero_gamma or config.gain == "auto"


def apply_init(
    model: nn.Module,
    config: InitConfig,
    *,
    images: Tensor | None,
    seed: int,
    head: Collection[str],
    stem: Collection[str],
    fresh: Collection[str] | None = None,
) -> InitAccount:
    """Give a network starting weights as settings say.

    Args:
        model: the network; it ends in the mode in which it was.
        config: the settings.
        images: [batch, channels, height, width], as the network takes them, where `needs_images` holds.
        seed: of the run.
        head: names of the layers that name the classes.
        stem: names of the layers that see the pixels.
        fresh: names of the tensors that were not loaded; None for all. Others are left alone.

    Raises:
        RecipeError: a pattern matches nothing, images are missing, or there is nothing to zero or to whiten.
    """
    schemes = settle_schemes(model, config, head=head, stem=stem)
    schemes = {name: scheme for name, scheme in schemes.items() if _is_fresh(f"{name}.weight", fresh)}
    found = Trace()
    if needs_images(config):
        if images is None:
            raise RecipeError(
                "init: images are needed for lsuv, whiten, zero_gamma and gain auto", hint="pass a batch: images=..."
            )
        with only_weights_change(model, seed=stream_seed(seed, "init")), torch.no_grad():
            found, _ = trace(model.eval(), images[:2])
    zeroed = _branch_ends(model, found, fresh) if config.zero_gamma else ()
    whitened, filters = "", torch.empty(0)
    if config.whiten:
        assert images is not None
        whitened = _first_convolution(stem, fresh)
        filters = filters_for(model.get_submodule(whitened), whitened, images)
    gains = _draw(model, schemes, config, found, seed)  # from here on the network is changed
    for name in zeroed:
        nn.init.zeros_(model.get_parameter(f"{name}.weight"))
    if whitened:
        whiten(model.get_submodule(whitened), filters)
    unscaled: tuple[str, ...] = ()
    scaled = [name for name, scheme in schemes.items() if scheme == "lsuv" and name != whitened]
    if scaled:
        assert images is not None
        unscaled = scale_to_unit_variance(model, scaled, images, seed=stream_seed(seed, "init"))
    return InitAccount(schemes, gains, zeroed, whitened, len(filters), unscaled)


def _draw(
    model: nn.Module, schemes: Mapping[str, Scheme], config: InitConfig, found: Trace, seed: int
) -> dict[str, float]:
    """Draw the weights of all layers with a scheme; return the gains that were taken from activations."""
    layers, gains = weighted_layers(model), dict[str, float]()
    for name, scheme in schemes.items():
        if scheme == "default":
            continue
        gain = None if config.gain == "auto" else config.gain
        if config.gain == "auto" and scheme in TAKES_GAIN:
            gain = gains[name] = gain_of(found.activations.get(name))
        generator = torch.Generator().manual_seed(stream_seed(seed, "init", name))
        fill(layers[name], scheme, generator, std=config.std, fan=config.fan, gain=gain)
    return gains


def _is_fresh(name: str, fresh: Collection[str] | None) -> bool:
    return fresh is None or name in fresh


def _branch_ends(model: nn.Module, found: Trace, fresh: Collection[str] | None) -> tuple[str, ...]:
    """Return the norms to zero (Goyal et al. 2017, section 5.1; He et al. 2019, section 3.1).

    Raises:
        RecipeError: there is none.
    """
    names = tuple(name for name in found.branch_ends if _is_fresh(f"{name}.weight", fresh))
    if not names:
        loaded = " that is fresh" if found.branch_ends else ""
        raise RecipeError(
            f"init.zero_gamma: no residual branch of the network ends with a norm{loaded}",
            hint="leave init.zero_gamma out",
        )
    return names


def _first_convolution(stem: Collection[str], fresh: Collection[str] | None) -> str:
    """Return the name of the convolution to whiten.

    Raises:
        RecipeError: there is none.
    """
    name = next((name for name in stem if _is_fresh(f"{name}.weight", fresh)), None)
    if name is None:
        loaded = " that is fresh" if stem else ""
        raise RecipeError(f"init.whiten: the network has no first convolution{loaded}", hint="leave init.whiten out")
    return name
