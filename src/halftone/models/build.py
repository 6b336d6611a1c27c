"""From a name to a network."""

import difflib

from torch import nn

from halftone.base.errors import RecipeError
from halftone.models.built import Built, Native
from halftone.models.cpu_convolutions import speed_up_convolutions
from halftone.models.head import find_head, find_stem, set_dropout
from halftone.models.own import build_own, is_own
from halftone.models.small import build_small, is_small
from halftone.models.trial import try_out

_SMALL = (
    *("cnn", "speednet", "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110"),
    *("plain30", "plain20_tanh", "plain20_sigmoid"),
)
"""Built-in names worth suggesting; there are residual and plain networks of other depths, too."""


def native_input(name: str) -> Native | None:
    """Return what a network of the zoo was designed for, or None for one that takes what it gets.

    Raises:
        RecipeError: nobody knows the name.
    """
    if is_own(name) or is_small(name):
        return None
    from halftone.models.zoo import is_zoo, zoo_native

    if not is_zoo(name):
        raise RecipeError(f"model = '{name}' is not known", hint=_nearest(name))
    return zoo_native(name)


def _nearest(name: str) -> str:
    """Return a hint for a name that nobody knows."""
    from halftone.models.zoo import TIMM, timm_names, torchvision_names

    if name.endswith(".py"):
        return f"say which class of the file: {name}:Class"
    options = {full.removeprefix(TIMM): full for full in timm_names(tags_of=name)}
    if name.startswith(TIMM):
        options = {full: full for full in options.values()}
    options |= {small.removeprefix("cifar_"): small for small in _SMALL}
    options |= {full: full for full in (*_SMALL, *torchvision_names())}
    lowered = name.lower().replace("-", "_")
    begins = [word for word in options if len(lowered) > 3 and word.startswith(lowered)]
    near = sorted(begins, key=lambda word: (word != lowered, len(word)))
    near += difflib.get_close_matches(lowered, torchvision_names(), n=1, cutoff=0.85)
    near += difflib.get_close_matches(lowered, options, n=1, cutoff=0.75)
    if near:
        return f"did you mean '{options[near[0]]}'?"
    return "name a torchvision or timm model (timm:NAME), or your own file.py:Class"


def build_model(name: str, *, num_classes: int, channels: int, size: int, dropout: float | None) -> Built:
    """Build a network with fresh weights and one output per class.

    Args:
        name: see `ModelConfig.name`.
        num_classes: outputs.
        channels: 1 for gray, 3 for RGB.
        size: height and width of its input in pixels.
        dropout: probability for its dropout layers, or None for its own.

    Raises:
        RecipeError: nobody knows the name, or the network does not take such pictures.
        ModelFileError: the user's file fails.
    """
    if is_small(name):
        module = build_small(name, num_classes=num_classes, channels=channels, size=size, dropout=dropout or 0.0)
        built = take_module(module, num_classes=num_classes, dropout=None)
    else:
        built = _build_large(name, num_classes=num_classes, channels=channels, size=size, dropout=dropout)
        try_out(built.module, name=name, num_classes=num_classes, channels=channels, size=size)
    return built


def _build_large(name: str, *, num_classes: int, channels: int, size: int, dropout: float | None) -> Built:
    """Build a network of the zoo or of the user's file."""
    if is_own(name):
        module = build_own(name, num_classes=num_classes, channels=channels)
        return take_module(module, num_classes=num_classes, dropout=dropout)
    native_input(name)
    from halftone.models.zoo import build_zoo

    built = build_zoo(name, num_classes=num_classes, channels=channels, size=size, dropout=dropout)
    speed_up_convolutions(built.module)
    return built


def take_module(module: nn.Module, *, num_classes: int, dropout: float | None) -> Built:
    """Take a network that was built elsewhere; `try_out` says whether it fits the pictures.

    Its convolutions compute from now on as they are fastest, see `speed_up_convolutions`.

    Raises:
        RecipeError: dropout was asked of a network without any.
    """
    if dropout is not None and not set_dropout(module, dropout):
        raise RecipeError(f"model.dropout = {dropout}: the network has no dropout layer", hint="leave it out")
    speed_up_convolutions(module)
    return Built(module, find_head(module, num_classes), find_stem(module))
