"""Where the weights of a run begin: fresh, published, or from a file; and which of them stand still."""

from collections.abc import Mapping

from torch import Tensor

from halftone.models.zoo import published_weights
from halftone.run.courses import halts_of, stand_still, thaws_of
from halftone.run.model_file import card_of
from halftone.run.plan.make import Prepared
from halftone.run.plan.sample import sample_images
from halftone.weights.files import load_weights
from halftone.weights.freeze import Thaw
from halftone.weights.head_rows import match_classes
from halftone.weights.initialise.apply import InitAccount, apply_init, needs_images
from halftone.weights.match import LoadAccount, load_matching

_SEEN = 128
"""Training images that starting weights are fitted to, where they are."""


def with_start(prepared: Prepared, *, fetch: bool = True) -> Prepared:
    """Load the starting weights that the recipe names, let the rest begin as it says, and freeze what it wants frozen.

    Args:
        prepared: with the network as it was built.
        fetch: whether published weights are wanted now; a plan that is only looked at downloads nothing.

    Returns:
        The same network, and in the plan a sentence on what became of the weights.

    Raises:
        RecipeError: a freeze matches nothing or leaves nothing to train; `init` cannot be done.
        ModelFileError: the weights do not fit, are damaged or unsafe.
        ResourceError: published weights cannot be had.
    """
    recipe = prepared.plan.settled
    if recipe.weights.pretrained and not fetch:
        return _frozen(prepared, f"the published ones of {recipe.model.name}, fetched when training begins")
    return with_rest(prepared, load_start(prepared))


def with_rest(prepared: Prepared, loaded: LoadAccount | None) -> Prepared:
    """Let the weights that were not loaded begin as the recipe says, and freeze what it wants frozen.

    Args:
        prepared: with the network, as `load_start` left it.
        loaded: what `load_start` returned.

    Returns:
        As `with_start`.

    Raises:
        RecipeError: a freeze matches nothing or leaves nothing to train; `init` cannot be done.
    """
    begun = str(_initialised(prepared, loaded))
    return _frozen(prepared, str(loaded or "fresh") + (f"; {begun}" if begun else ""))


def _frozen(prepared: Prepared, text: str) -> Prepared:
    """Freeze what the recipe wants frozen; put a sentence on the weights into the plan, and that with it."""
    frozen = stand_still(prepared.built, prepared.plan.settled.weights)
    thaws = _thaws(prepared, frozen)
    if frozen:
        moving = sum(weight.numel() for weight in prepared.built.module.parameters() if weight.requires_grad)
        text += f"; {moving:,} of {prepared.plan.model.num_parameters:,} parameters train"
        text += ", ".join([" at first", *(f"{thaw.name} from step {thaw.step} on" for thaw in thaws)]) if thaws else ""
    plan = prepared.plan
    steps = {"steps_per_epoch": plan.batches_per_epoch, "total_steps": plan.total_steps}
    halts = halts_of(prepared.built, plan.settled.weights, thaws, **steps)
    halts = tuple(halt for halt in halts if halt.step < plan.total_steps)
    text += "".join(f"; {halt.name} stands still from step {halt.step} on" for halt in halts)
    return prepared.with_plan(plan.replaced(weights=text, thaws=thaws, halts=halts))


def _initialised(prepared: Prepared, loaded: LoadAccount | None) -> InitAccount:
    """Let the weights that were not loaded begin as `init` says.

    Raises:
        RecipeError: a pattern matches nothing, or there is nothing to zero or to whiten.
    """
    plan, built = prepared.plan, prepared.built
    recipe, images = plan.settled, None
    if needs_images(recipe.init):
        device = next(built.module.parameters()).device
        count = min(_SEEN, len(prepared.train.labels))
        images = sample_images(prepared.train, plan.input, device, data=recipe.data, count=count).images
    fresh = None if loaded is None else {*loaded.fresh, *loaded.missing}
    head, stem = built.head, built.stem
    return apply_init(built.module, recipe.init, images=images, seed=recipe.seed, head=head, stem=stem, fresh=fresh)


def _thaws(prepared: Prepared, frozen: list[str]) -> tuple[Thaw, ...]:
    """Plan what of the frozen parameters thaws; what would do so after the run is left out."""
    plan = prepared.plan
    thaws = thaws_of(
        prepared.built,
        plan.settled.weights,
        frozen,
        steps_per_epoch=plan.batches_per_epoch,
        total_steps=plan.total_steps,
    )
    return tuple(thaw for thaw in thaws if thaw.step < plan.total_steps)


def load_start(prepared: Prepared) -> LoadAccount | None:
    """Load the starting weights, if any, and say what became of each tensor.

    Raises:
        ModelFileError: they do not fit, are damaged or unsafe.
        ResourceError: published weights cannot be had.
    """
    recipe, built, classes = prepared.plan.settled, prepared.built, prepared.plan.data.classes
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
        rows=None if card is None or card.classes == classes else match_classes(card.classes, classes),
        origin=origin,
    )
