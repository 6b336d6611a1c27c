"""Where the weights of a run begin: fresh, published, or from a file; and which of them stand still."""

from collections.abc import Mapping

from torch import Tensor

from halftone.models.zoo import published_weights
from halftone.run.model_file import card_of
from halftone.run.plan.make import Prepared
from halftone.weights.files import load_weights
from halftone.weights.freeze import freeze
from halftone.weights.match import LoadAccount, load_matching


def with_start(prepared: Prepared, *, fetch: bool = True) -> Prepared:
    """Load the starting weights that the recipe names and freeze what it wants frozen.

    Args:
        prepared: with the network as it was built.
        fetch: whether published weights are wanted now; a plan that is only looked at downloads nothing.

    Returns:
        The same network, and in the plan a sentence on what became of the weights.

    Raises:
        RecipeError: a freeze matches nothing, or leaves nothing to train.
        ModelFileError: the weights do not fit, are damaged or unsafe.
        ResourceError: published weights cannot be had.
    """
    recipe = prepared.plan.settled
    later = recipe.weights.pretrained and not fetch
    if later:
        text = f"the published ones of {recipe.model.name}, fetched when training begins"
    else:
        text = str(_load_start(prepared) or "fresh")
    if recipe.weights.freeze:
        module = prepared.built.module
        freeze(module, recipe.weights.freeze, head=prepared.built.head)
        moving = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        text += f"; {moving:,} of {prepared.plan.model.num_parameters:,} parameters train"
    return prepared.with_plan(prepared.plan.replaced(weights=text))


def _load_start(prepared: Prepared) -> LoadAccount | None:
    """Load the starting weights, if any.

    Raises:
        ModelFileError: they do not fit, are damaged or unsafe.
        ResourceError: published weights cannot be had.
    """
    recipe, built = prepared.plan.settled, prepared.built
    card = None
    if recipe.weights.file is not None:
        file = recipe.weights.file.expanduser()
        stored = load_weights(file)
        tensors: Mapping[str, Tensor] = stored.tensors
        card, origin = card_of(file, stored.header), str(file)
    elif recipe.weights.pretrained:
        tensors, origin = published_weights(recipe.model.name), f"the published {recipe.model.name}"
    else:
        return None
    return load_matching(
        built.module,
        tensors,
        head=built.head,
        stem=built.stem,
        partial=recipe.weights.partial,
        other_classes=card is not None and card.classes != prepared.plan.data.classes,
        origin=origin,
    )
