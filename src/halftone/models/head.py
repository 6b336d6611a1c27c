"""Finding and fitting the ends of a network: the layers that see the pixels and the layers that name the classes."""

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def find_head(module: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Return the names of the layers with one output per class, auxiliary and distilled classifiers included.

    A network of timm says which they are. In any other one it is the last linear layer or 1x1 convolution with
    `num_classes` outputs, and the last such layer in each branch whose name begins with "aux".
    """
    outputs = {
        name: layer
        for name, layer in module.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == num_classes)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == num_classes and layer.kernel_size == (1, 1))
    }
    auxiliary: dict[str, str] = {}
    for name in outputs:
        branch = name.partition(".")[0]
        if branch.lower().startswith("aux"):
            auxiliary[branch] = name
    others = [name for name in outputs if not name.lower().startswith("aux")]
    heads = {*_declared_head(module), *auxiliary.values(), *others[-1:]}
    return tuple(name for name in outputs if name in heads)


def _declared_head(module: nn.Module) -> tuple[str, ...]:
    """Return what a network of timm calls its classifiers: one name, several, or none."""
    declared = getattr(module, "pretrained_cfg", None)
    names = declared.get("classifier") if isinstance(declared, dict) else None
    if isinstance(names, str):
        return (names,)
    return tuple(names) if isinstance(names, list | tuple) else ()


def find_stem(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions that take one or three channels, the first of which sees the pixels.

    Some networks look at the pixels with several at once. Empty for a network without any.
    """
    return tuple(
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels in (1, 3)
    )


def set_input_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for another number of channels, initialised as it was.

    The weights for one channel are the sum of those for three, so that a gray picture gives the same output
    as the RGB picture with that gray in each channel.
    """
    for name in find_stem(module)[:1]:
        old = module.get_submodule(name)
        assert isinstance(old, nn.Conv2d)
        if old.in_channels == channels:
            return
        new = nn.Conv2d(
            channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
            device=old.weight.device,
            dtype=old.weight.dtype,
        )
        with torch.no_grad():
            new.weight.copy_(fold_channels(old.weight, channels))
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
        module.set_submodule(name, new)


def fold_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Convert the weight of a first convolution, [out, in, height, width], to another number of input channels."""
    if weight.shape[1] == channels:
        return weight
    total = weight.sum(1, keepdim=True)
    return total if channels == 1 else total.expand(-1, channels, -1, -1) / channels


def set_dropout(module: nn.Module, probability: float) -> int:
    """Set the probability of every dropout layer; return how many there are."""
    layers = [layer for layer in module.modules() if isinstance(layer, _DropoutNd)]
    for layer in layers:
        layer.p = probability
    return len(layers)
