"""The part of the plan that concerns memory: into how many parts a batch is divided so that a step fits."""

import torch

from halftone.base.records import decided
from halftone.data.labelled import Labelled
from halftone.optim.loss import Criterion
from halftone.precision.config import PrecisionConfig
from halftone.precision.trial import StepMemory, Trial
from halftone.run.plan.decide import Decision
from halftone.run.plan.network import Network, training_copy
from halftone.run.plan.sample import sample_images
from halftone.run.recipe import Recipe
from halftone.system.memory import available_bytes, give_back, ran_out

_MOST_KEPT = 1000
"""Times the bytes of its input that no usual network keeps for the backward pass, in fp32; `benchmarks.step_memory`
shows what they keep."""
_STATES = {"sgd": 1, "rmsprop": 2, "muon": 1}
"""Numbers that an optimizer keeps for each weight; others keep two."""
_ROOM = 0.8
"""Of the free memory, what a step may take: the rest is for what was not weighed, and for others."""
_FEW, _MORE = 4, 8
"""Images in the two steps that are weighed on a device that counts its memory."""


def choose_parts(
    recipe: Recipe, network: Network, train: Labelled, device: torch.device, config: PrecisionConfig
) -> Decision[int]:
    """Choose how often a batch is divided, by what a step on a few images takes in memory.

    What is trivially small is not weighed. Where weighing fails, nothing is divided: a run that lacks memory divides
    its batches by itself.

    Args:
        recipe: its batch, epochs, optimizer and threads are settled.
        network: a copy of it is weighed.
        train: the training images.
        device: where it will train.
        config: the precision to weigh it in.
    """
    batch, spec, free = decided(recipe.batch_size), network.spec, available_bytes(device)
    weights = sum(parameter.numel() * 4 for parameter in network.built.module.parameters())
    kept_states = _STATES.get(decided(recipe.optimizer.name), 2) + (recipe.average.decay > 0)
    most = batch * spec.size**2 * spec.channels * 4 * _MOST_KEPT + (3 + kept_states) * weights
    if batch < 4 or most <= free // 4:
        return Decision(1, "a step is small beside the memory that is free")
    try:
        step = _weigh(recipe, network, train, device, config)
    except Exception as error:  # the user's own network: whatever goes wrong, the run goes on
        give_back(device)
        if ran_out(error):
            return Decision(batch // 2, f"a step on {_MORE} images at once does not fit into memory")
        said = " ".join(str(error).split())[:120] or type(error).__name__
        return Decision(1, f"what a step takes could not be weighed: {said}")
    fixed = step.fixed + (1 + kept_states) * weights
    return parts(batch, fixed=fixed, per_image=step.per_image, free=free)


def _weigh(
    recipe: Recipe, network: Network, train: Labelled, device: torch.device, config: PrecisionConfig
) -> StepMemory:
    """Weigh steps of a copy of the network, on the device."""
    model, layout = training_copy(network, recipe, device)
    count = min(_MORE, len(train.labels))
    batch = sample_images(train, network.spec, device, data=recipe.data, count=count)
    criterion = Criterion(recipe.loss, auxiliary=network.built.auxiliary)
    images = batch.images.contiguous(memory_format=layout)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return Trial(model, images, batch.targets, criterion).memory(config, few=min(_FEW, count // 2))


def parts(batch: int, *, fixed: int, per_image: int, free: int) -> Decision[int]:
    """Choose into how many parts a batch is divided, so that a step takes no more than a share of the free memory.

    Args:
        batch: images per update.
        fixed: bytes that a step takes whatever the batch.
        per_image: bytes for each image that passes at once.
        free: bytes.
    """
    fitting = max((int(free * _ROOM) - fixed) // per_image, 1)
    whole, had = _amount(fixed + batch * per_image), f"the {_amount(free)} that are free"
    if batch <= fitting:
        return Decision(1, f"a step on {batch} images takes about {whole} of {had}")
    count = min(-(-batch // fitting), max(1, batch // 2))
    said = f"a step on {batch} images at once would take about {whole}, and it may take {_ROOM:.0%} of {had}"
    return Decision(count, said if -(-batch // count) <= fitting else f"{said}; even two may be too much")


def _amount(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
