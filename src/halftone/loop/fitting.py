"""Whether a saved state belongs to a run: what restoring it would take without complaint is refused here."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from halftone.base.errors import listed
from halftone.weights.match import first_not_finite


def refuse_unlike(own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a state with other parts, counters or numbers than a run has.

    Args:
        own: what `capture` returns of the run, just built.
        state: what is to be restored.

    Raises:
        KeyError: a part is missing.
        ValueError: a part is unknown, or of another kind.
    """
    for parts, given in ((own, state), (own["progress"], state["progress"])):
        unknown = sorted(given.keys() - parts.keys())
        if unknown:
            raise ValueError(f"it holds {listed(unknown, most=3)}, which this version does not know")
    for name, value in state["progress"].items():
        if not isinstance(value, type(own["progress"][name])):
            raise ValueError(f"{name} is a {type(value).__name__}")
    for part in ("model", "unlisted"):
        _refuse_other_tensors(own[part], state[part])
    if "average" in own:
        _refuse_other_tensors(own["average"]["module"], state["average"]["module"])


def _refuse_other_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    for name, tensor in own.items():
        found = given[name]
        if not isinstance(found, Tensor) or (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
            raise ValueError(f"{name} is not {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")
    broken = first_not_finite(given)
    if broken is not None:
        raise ValueError(f"{broken} is not finite")
