"""The classifiers of torchvision and timm, by name, with a head for the classes at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halftone.base.errors import ModelFileError, RecipeError, ResourceError
from halftone.base.inputs import Interpolation
from halftone.models.built import Built, Native
from halftone.models.head import find_head, find_stem, set_dropout, set_input_channels
from halftone.models.published import fetch_hub, fetch_url

TIMM = "timm:"
_FIXED = ("vit_", "maxvit_", "inception_v3")
"""Networks of torchvision that take one size only (Inception because of its auxiliary classifier)."""
_AUXILIARY = {
    "inception_v3": 0.4,  # torchvision's reference training
    "googlenet": 0.3,  # Szegedy et al. 2015, section 5
}
_HALF = (0.5, 0.5, 0.5)
"""What the weights of those two expect: torchvision converts from the usual normalisation within the network."""
_INTERPOLATIONS: dict[str, Interpolation] = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    from torchvision import models

    return list(models.list_models(module=models))


def timm_names(*, tags_of: str = "") -> list[str]:
    """Return the names of timm's classifiers, with the prefix that selects them.

    Args:
        tags_of: if this is a name with a tag (`timm:resnet18.x`), add the names of all published weights.
    """
    import timm

    tagged = timm.list_pretrained() if "." in tags_of else []
    return [TIMM + name for name in (*timm.list_models(), *tagged)]


def is_zoo(name: str) -> bool:
    """Tell whether torchvision or timm knows the name."""
    if not name.startswith(TIMM):
        return name in torchvision_names()
    import timm

    plain = name.removeprefix(TIMM)
    architecture, _, tag = plain.partition(".")
    return bool(timm.is_model(architecture)) and (not tag or plain in timm.list_pretrained(f"{architecture}.*"))


def zoo_native(name: str) -> Native:
    """Return what a network of the zoo was designed for."""
    return _timm_native(name.removeprefix(TIMM)) if name.startswith(TIMM) else _torchvision_native(name)


def _torchvision_native(name: str) -> Native:
    from torchvision import models

    preset = models.get_model_weights(name).DEFAULT.transforms()
    size = int(preset.crop_size[0])
    return Native(
        size=size,
        fixed=name.startswith(_FIXED),
        smallest=64 if name.startswith(("densenet", "vgg", "alexnet", "squeezenet")) else 32,
        mean=_HALF if name in _AUXILIARY else tuple(preset.mean),
        std=_HALF if name in _AUXILIARY else tuple(preset.std),
        crop=size / int(preset.resize_size[0]),
        interpolation=_INTERPOLATIONS[preset.interpolation.value],
    )


def _timm_native(name: str) -> Native:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None:
        return Native(size=224)
    return Native(
        size=int(config.input_size[-1]),
        fixed=bool(config.fixed_input_size),
        smallest=config.min_input_size[-1] if config.min_input_size else 32,
        mean=tuple(config.mean),
        std=tuple(config.std),
        crop=min(float(config.crop_pct), 1.0),
        interpolation=_INTERPOLATIONS.get(config.interpolation, "bicubic"),
    )


def build_zoo(name: str, *, num_classes: int, channels: int, size: int, dropout: float | None) -> Built:
    """Build a network of the zoo with fresh weights.

    Raises:
        RecipeError: it takes another size, or dropout was asked of a network without any.
    """
    if name.startswith(TIMM):
        return _build_timm(name, num_classes, channels, size, dropout)
    from torchvision import models

    native = _torchvision_native(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in _AUXILIARY:
        options |= {"aux_logits": True, "init_weights": False, "transform_input": False}
    if name.startswith("vit_"):
        options["image_size"] = size
    elif native.fixed and size != native.size:
        raise RecipeError(f"data.size = {size}: {name} takes {native.size} pixels only")
    try:
        module: nn.Module = models.get_model(name, weights=None, **options)
    except (AssertionError, ValueError) as error:
        raise RecipeError(f"model = '{name}' cannot be built for {size} pixels: {error}") from error
    set_input_channels(module, channels)
    if dropout is not None and not set_dropout(module, dropout):
        raise RecipeError(f"model.dropout = {dropout}: {name} has no dropout layer", hint="leave it out")
    return Built(module, find_head(module, num_classes), find_stem(module), _AUXILIARY.get(name, 0.0))


def _build_timm(name: str, num_classes: int, channels: int, size: int, dropout: float | None) -> Built:
    import timm

    plain = name.removeprefix(TIMM)
    native = _timm_native(plain)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    if dropout is not None:
        options["drop_rate"] = dropout
    if size != native.size and native.fixed:
        options["img_size"] = size
    try:
        module: nn.Module = timm.create_model(plain, pretrained=False, **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise RecipeError(f"model = '{name}' cannot be built for {size} pixels: {error}") from error
    return Built(module, find_head(module, num_classes), find_stem(module))


def published_weights(name: str) -> Mapping[str, torch.Tensor]:
    """Fetch the weights that a network's library publishes, from its cache or the network.

    Raises:
        ModelFileError: there are none, or those in the cache are damaged.
        ResourceError: they cannot be had, offline for instance.
    """
    return _published_timm(name) if name.startswith(TIMM) else _published_torchvision(name)


def _published_torchvision(name: str) -> Mapping[str, torch.Tensor]:
    from torchvision import models

    url = models.get_model_weights(name).DEFAULT.url
    file = fetch_url(url, Path(torch.hub.get_dir()) / "checkpoints")
    state: Mapping[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _published_timm(name: str) -> Mapping[str, torch.Tensor]:
    """Let timm load its weights, which it may store under other names, from a file that was checked."""
    import timm

    plain = name.removeprefix(TIMM)
    config = timm.get_pretrained_cfg(plain)
    if config is None or not config.has_weights:
        raise ModelFileError(f"there are no published weights of {name}", hint="train from scratch: --no-pretrained")
    overlay: dict[str, Any] = {}
    if config.hf_hub_id:
        file = fetch_hub(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if file is not None and file.suffix == ".safetensors":
            overlay = {"file": str(file), "custom_load": False}
    try:
        module = timm.create_model(plain, pretrained=True, pretrained_cfg_overlay=overlay)
    except (OSError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"the published weights of {name} cannot be had: {' '.join(str(error).split())[:200]}",
            hint="download them where there is a network, then name the file: --weights FILE",
        ) from error
    state: Mapping[str, torch.Tensor] = module.state_dict()
    return state
