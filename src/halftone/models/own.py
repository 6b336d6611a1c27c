"""A network of the user's own, from `path/to/file.py:Class`."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import nn

from halftone.base.errors import HalftoneError, ModelFileError, RecipeError, closest, listed


def is_own(name: str) -> bool:
    """Tell whether a model's name has the form `file.py:Class`."""
    return ".py:" in name


def settled_own(name: str) -> str:
    """Return the name with its file's place in full, so that it means the same from anywhere."""
    file, _, attribute = name.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{attribute}"


def build_own(name: str, *, num_classes: int, channels: int) -> nn.Module:
    """Run the user's file and build what it names: a class, a function that returns a module, or a module.

    A class or function is called with those of the arguments `num_classes` and `in_channels` that it has. The
    file may import others that lie beside it.

    Raises:
        ModelFileError: no such file, nothing of that name in it, or its code fails.
        RecipeError: what it builds is no module.
    """
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ModelFileError(f"model = '{name}': there is no file {path}")
    folder = str(path.parent)
    sys.path.append(folder)  # last, so that nothing beside the file hides an installed package
    try:
        build = _find(_run(path, name), attribute, path)
        network = build if isinstance(build, nn.Module) else _call(build, num_classes, channels, name)
    finally:
        sys.path.remove(folder)
    if not isinstance(network, nn.Module):
        raise RecipeError(f"model = '{name}' gives a {type(network).__name__}; it must be a torch.nn.Module")
    return network


def _run(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"halftone_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelFileError(f"model = '{name}': {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except HalftoneError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code: anything can happen
        raise ModelFileError(f"{path} fails: {_said(error)}", hint="--debug shows where") from error
    return module


def _find(module: ModuleType, attribute: str, path: Path) -> Callable[..., object]:
    found = vars(module).get(attribute)
    if callable(found):
        return found
    names = [
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    raise ModelFileError(
        f"{path} defines no '{attribute}'; it has {listed(names) or 'nothing to call'}",
        hint=closest(attribute, names),
    )


def _call(build: Callable[..., object], num_classes: int, channels: int, name: str) -> object:
    offered = {"num_classes": num_classes, "in_channels": channels}
    try:
        parameters = inspect.signature(build).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        return build(**{key: value for key, value in offered.items() if takes_all or key in parameters})
    except (Exception, SystemExit) as error:  # as above
        raise ModelFileError(
            f"model = '{name}' cannot be built: {_said(error)}",
            hint="give every argument a default, except num_classes and in_channels; --debug shows where",
        ) from error


def _said(error: BaseException) -> str:
    """Return an error of the user's code in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
