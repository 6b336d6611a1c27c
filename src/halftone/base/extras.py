"""Optional packages: import one, or say which install line brings it."""

import importlib
from types import ModuleType

from halftone.base.errors import ResourceError


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ResourceError: it is not installed, or is broken; the hint holds the install line.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name in (package, module)
        reason = "which is not installed" if absent else f"which cannot be imported: {error}"
        raise ResourceError(
            f"this needs the package '{package}', {reason}", hint=f'pip install "halftone[{extra}]"'
        ) from error
