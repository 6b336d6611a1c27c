"""What a plan says of the course of the rate before anything runs: its schedule, its warmup in words, its warnings."""

from halftone.base.records import decided
from halftone.optim.build import usual_momentum
from halftone.run.plan.rates import stable_limit
from halftone.run.plan.record import Plan
from halftone.schedule.build import build_schedule
from halftone.schedule.lint import lint
from halftone.schedule.schedule import Schedule


def schedule_of(plan: Plan) -> Schedule:
    """Build the schedule that a plan describes, without the courses of single layers."""
    settled = plan.settled
    return build_schedule(
        settled.warmup,
        settled.decay,
        steps_per_epoch=plan.batches_per_epoch,
        total_steps=plan.total_steps,
        momentum=usual_momentum(settled.optimizer),
    )


def warmup_in_words(plan: Plan) -> str:
    """Say how long the warmup is in every unit: "10% = 156 steps = 4 epochs = 19,968 images, linear ..."."""
    warmup, steps = plan.settled.warmup, plan.warmup_steps
    if not steps:
        return "none"
    asked = decided(warmup.length)
    written = "" if asked.unit == "it" else f"{asked} = "
    epochs = steps / max(plan.batches_per_epoch, 1)
    images = steps * decided(plan.settled.batch_size)
    units = f"{written}{steps:,} steps = {epochs:.3g} epochs = {images:,} images"
    rise = f"{warmup.shape} from {decided(warmup.start):.3g} of the peak"
    return f"{units}, {rise}" + ("; it may end sooner or later" if warmup.shape == "adaptive" else "")


def with_warnings(plan: Plan) -> Plan:
    """Look the schedule of a plan over and write down what looks wrong."""
    settled = plan.settled
    found = lint(
        schedule_of(plan),
        settled.warmup,
        settled.decay,
        steps_per_epoch=plan.batches_per_epoch,
        peak=decided(settled.optimizer.lr),
        stable=None if plan.rates is None else stable_limit(plan.rates),
    )
    return plan.replaced(warnings=found)
