"""Where the runs of a comparison go on, and how many at once."""

from halftone.comparison.experiment import Experiment
from halftone.comparison.vary import recipe_of
from halftone.models.small import is_small
from halftone.run.plan.make import make_plan
from halftone.system.threads import usable_cores


def with_devices(experiment: Experiment) -> Experiment:
    """Settle where runs go on, where that was left open, by a look at the baseline.

    A step of a built-in small network is too short for several threads. On the CPU, runs of such networks go on side
    by side, one on each core, so that a pair of runs meets the same conditions. All other runs have the machine to
    themselves.

    Raises:
        HalftoneError: the baseline cannot be planned: its data, network or settings are wrong.
    """
    plan = make_plan(recipe_of(experiment.base, experiment.variants[0], seed=experiment.seeds[0])).plan
    if experiment.devices or plan.settled.device != "cpu" or "threads" in experiment.base:
        return experiment.replaced(devices=experiment.devices or ("",))
    cores = usable_cores()
    if cores == 1 or not is_small(plan.settled.model.name):
        return experiment.replaced(devices=("",))
    at_once = min(cores, len(experiment.variants))
    base = {**experiment.base, "threads": cores // at_once}
    return experiment.replaced(devices=("cpu",) * at_once, base=base)
