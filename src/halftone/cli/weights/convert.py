"""weights convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from halftone.base.errors import ModelFileError, RecipeError, printable
from halftone.cli.weights.shared import File, refuse_overwriting

if TYPE_CHECKING:
    from halftone.weights.convert import Rounding


def convert(
    source: File,
    out: Annotated[Path, Parameter(help="Where the result goes: .safetensors, or .pt or .pth for PyTorch.")],
    /,
    *,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, Parameter(help="Round to this format; without it nothing is rounded.")
    ] = None,
    prefix: Annotated[str, Parameter(help="Put this before every name, such as module.")] = "",
    force: Annotated[
        bool, Parameter(help="Overwrite a file that is there, and let numbers become infinite.", negative=())
    ] = False,
) -> int:
    """Turn a PyTorch file into safetensors or back, without prefixes of wrappers, in another format if asked."""
    kind = _kind_of(out)
    refuse_overwriting(out, force=force)
    import torch

    from halftone.run.weight_files import open_weights
    from halftone.weights.convert import rounded, without_wrappers
    from halftone.weights.files import save_plain, save_pytorch
    from halftone.weights.match import first_not_finite

    opened = open_weights(source)
    tensors, removed = without_wrappers(opened.tensors)
    card = opened.card
    if removed:
        print(f"removed from every name: {removed}")
    if dtype is not None:
        formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        tensors, loss = rounded(tensors, formats[dtype])
        _say_rounding(loss, opened.path, force=force)
        if card is not None and loss.num_converted:  # what was measured was measured on other numbers
            card = card.replaced(accuracy=None, loss=None)
    tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    if kind == "safetensors" and card is not None and not prefix and first_not_finite(tensors) is None:
        from halftone.run.model_file import save_model

        save_model(out, tensors, card)
        print(printable(f"{len(tensors):,} tensors and the card saved: {out}"))
        return 0
    (save_plain if kind == "safetensors" else save_pytorch)(out, tensors)
    lost = "; its card, which predict needs, stays behind" if card is not None else ""
    print(printable(f"{len(tensors):,} tensors saved: {out}{lost}"))
    return 0


def _kind_of(out: Path) -> Literal["safetensors", "pytorch"]:
    if out.suffix == ".safetensors":
        return "safetensors"
    if out.suffix in (".pt", ".pth"):
        return "pytorch"
    raise RecipeError(f"{out}: the suffix says what is written", hint="end it in .safetensors, .pt or .pth")


def _say_rounding(loss: "Rounding", path: Path, *, force: bool) -> None:
    """Say what a change of format costs.

    Raises:
        ModelFileError: numbers become infinite, and nobody insists.
    """
    if loss.num_overflow and not force:
        raise ModelFileError(
            f"{loss.num_overflow:,} numbers of {path} would become infinite in {loss.dtype}",
            hint="use bf16, whose range is that of fp32, or insist with --force",
        )
    where = printable(f" ({loss.largest_error_in})") if loss.largest_error_in else ""
    print(
        f"{loss.num_converted:,} tensors rounded to {loss.dtype}: largest error {loss.largest_error:.3g}{where}, "
        f"largest relative error {loss.largest_relative:.3g}, {loss.num_overflow:,} to infinity, "
        f"{loss.num_underflow:,} to zero"
    )
