"""Loading weights into a network that may differ from the one they were made for, with an account of it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from halftone.base.errors import Diverged, ModelFileError, listed
from halftone.weights.head_rows import HeadRows, takes_rows, with_rows

_PREFIX = re.compile(r"^(module|_orig_mod|model|net|ema_model)\.")
_MOST_PREFIXES = 4


@dataclass(frozen=True, slots=True)
class LoadAccount:
    """What became of each tensor."""

    loaded: tuple[str, ...]
    reshaped: tuple[str, ...]
    """First convolutions converted to another number of input channels."""
    fresh: tuple[str, ...]
    """Tensors of the head, which keep their fresh values because the classes differ."""
    missing: tuple[str, ...]
    """Tensors that the network has and the file lacks, or has in another shape."""
    unused: tuple[str, ...]
    """Tensors of the file that the network has no place for."""
    carried: HeadRows | None = None
    """The rows of the head that were carried over by the names of their classes."""

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.reshaped:
            parts.append(f"{listed(self.reshaped, most=2)} converted to another number of channels")
        if self.carried is not None:
            parts.append(str(self.carried))
        if self.fresh:
            parts.append(f"fresh head ({listed(self.fresh, most=3)})")
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({listed(self.missing, most=3)})")
        if self.unused:
            parts.append(f"{len(self.unused)} of the file unused ({listed(self.unused, most=3)})")
        return "; ".join(parts)


def load_matching(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    head: tuple[str, ...] = (),
    stem: tuple[str, ...] = (),
    partial: bool = False,
    rows: HeadRows | None = None,
    origin: str = "the file",
) -> LoadAccount:
    """Copy weights into a network by name.

    The head may differ in its classes: rows of classes that the file knows by name are carried over, the others
    stay fresh. The stem may differ in its number of input channels and is converted. Everything else must fit,
    unless `partial`. Numbers of other precision are converted; names may carry what wrappers put before them (see
    `without_prefix`).

    Args:
        module: the network.
        tensors: by name.
        head: names of the layers that depend on the classes.
        stem: names of the layers that depend on the input channels.
        partial: accept that some weights are missing or of other shapes.
        rows: which row of the file's head means which class, where its classes are others or in another order; without
            it, a head that fits is loaded and one that does not stays fresh.
        origin: what to call the tensors in messages.

    Raises:
        ModelFileError: weights are missing, of other shapes or not finite; nothing was changed.
    """
    target = module.state_dict()
    given = without_prefix(tensors, target)
    unlike = _unlike_heads(target, given, head) if rows is None else tuple(f"{name}." for name in head)
    chosen, account = _match(target, given, unlike=unlike, stem=stem)
    if rows is not None and rows.names:
        mixed = _carried(target, given, head, rows)
        chosen |= mixed
        fresh = tuple(name for name in account.fresh if name not in mixed)
        account = replace(account, loaded=tuple(chosen), fresh=fresh, carried=rows if mixed else None)
    if account.missing and not partial:
        name = account.missing[0]
        found = f"is {_described(given[name])}" if name in given else "is missing"
        raise ModelFileError(
            f"the weights of {origin} do not fit: {len(account.missing)} of {len(target)} tensors; "
            f"{name}, {_described(target[name])} in the network, {found}",
            hint="choose the network they were made for, or load what fits with --weights.partial",
        )
    if not chosen:
        raise ModelFileError(f"no tensor of {origin} fits the network", hint="choose the network they were made for")
    broken = first_not_finite(chosen)
    if broken is not None:
        raise ModelFileError(f"the weights of {origin} are not finite: {broken}", hint="use an earlier file")
    with torch.no_grad():
        for name, tensor in chosen.items():
            target[name].copy_(tensor)
    return account


def _match(
    target: Mapping[str, Tensor], given: Mapping[str, Tensor], *, unlike: tuple[str, ...], stem: tuple[str, ...]
) -> tuple[dict[str, Tensor], LoadAccount]:
    """Return what to copy into which tensor of the network, and what becomes of the rest."""
    stems = {f"{name}.weight" for name in stem}
    chosen: dict[str, Tensor] = {}
    reshaped, fresh, missing = [], [], []
    for name, own in target.items():
        tensor = given.get(name)
        if name.startswith(unlike):
            fresh.append(name)
        elif tensor is not None and fits(tensor, own):
            chosen[name] = tensor
        elif tensor is not None and name in stems and _other_channels(tensor, own):
            chosen[name] = _fold(tensor, own.shape[1])
            reshaped.append(name)
        elif not name.endswith("num_batches_tracked"):
            missing.append(name)
    unused = tuple(name for name in given if name not in target)
    return chosen, LoadAccount(tuple(chosen), tuple(reshaped), tuple(fresh), tuple(missing), unused)


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with an infinity or a NaN in it, or None; waits for the device once."""
    numbers = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not numbers:
        return None
    # formats of one byte have no isfinite of their own
    wide = (tensor.float() if tensor.itemsize == 1 else tensor for tensor in numbers.values())
    bad = (~torch.stack([torch.isfinite(tensor).all() for tensor in wide])).tolist()
    return next((name for name, is_bad in zip(numbers, bad, strict=True) if is_bad), None)


def refuse_not_finite(tensors: Mapping[str, Tensor], *, step: int) -> None:
    """Refuse to save weights with an infinity or a NaN in them.

    Raises:
        Diverged: naming the first of them and the step after which it is so.
    """
    broken = first_not_finite(tensors)
    if broken is not None:
        raise Diverged(
            f"the weights of {broken} are not finite after step {step}; they are not saved",
            hint="lower --lr or lengthen --warmup; earlier files are untouched",
        )


def without_prefix(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Remove what wrappers such as DataParallel and torch.compile put before names.

    As many prefixes are removed as make the most names fit those wanted: a network may have a layer called
    `model` itself. Where none fits, the network is looked for under the one name that its owner gave it, such as
    `classifier.` in a checkpoint of Lightning.
    """
    best, names = -1, dict(tensors)
    stripped = names
    for _ in range(_MOST_PREFIXES + 1):
        num_fitting = sum(name in wanted for name in stripped)
        if num_fitting > best:
            best, names = num_fitting, stripped
        shorter = {_PREFIX.sub("", name): tensor for name, tensor in stripped.items()}
        if len(shorter) < len(stripped):  # two networks in one file: which of them is meant, nobody knows
            break
        stripped = shorter
    if best > 0 or not wanted:
        return names
    own = max(wanted, key=len)
    owners = [name.removesuffix(own) for name in tensors if name.endswith(f".{own}")]
    if len(owners) != 1:
        return names
    return {name.removeprefix(owners[0]): tensor for name, tensor in tensors.items()}


def _carried(
    target: Mapping[str, Tensor], given: Mapping[str, Tensor], head: tuple[str, ...], rows: HeadRows
) -> dict[str, Tensor]:
    """Return the tensors of the head's layers with the rows of the classes that the file knows, layer by layer."""
    mixed: dict[str, Tensor] = {}
    for layer in head:
        own = {name: tensor for name, tensor in target.items() if name.startswith(f"{layer}.")}
        if all(name in given and takes_rows(tensor, given[name], rows) for name, tensor in own.items()):
            mixed |= {name: with_rows(tensor, given[name], rows) for name, tensor in own.items()}
    return mixed


def _unlike_heads(target: Mapping[str, Tensor], given: Mapping[str, Tensor], head: tuple[str, ...]) -> tuple[str, ...]:
    """Return the prefixes of the head's layers that do not fit: each is loaded as a whole or not at all."""
    return tuple(
        f"{layer}."
        for layer in head
        if any(
            name.startswith(f"{layer}.") and not (name in given and fits(given[name], own))
            for name, own in target.items()
        )
    )


def fits(tensor: Tensor, own: Tensor) -> bool:
    """Tell whether a tensor can take the place of another: the same shape, and whole numbers or fractions as there."""
    return tensor.shape == own.shape and tensor.is_floating_point() == own.is_floating_point()


def _described(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _other_channels(tensor: Tensor, own: Tensor) -> bool:
    same = tensor.ndim == own.ndim == 4 and tensor.shape[0] == own.shape[0] and tensor.shape[2:] == own.shape[2:]
    return same and {tensor.shape[1], own.shape[1]} == {1, 3}


def _fold(weight: Tensor, channels: int) -> Tensor:
    """Convert so that a gray picture, as one channel or as three equal ones, gives the same output."""
    total = weight.sum(1, keepdim=True)
    return total if channels == 1 else total.expand(-1, channels, -1, -1) / channels
